import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HostSpec, PoolSpec, SshSpec } from '../../src/domain/model.ts';
import { openHostSession } from '../../src/ssh/open-session.ts';
import type { TestSshd } from './sshd.ts';

export interface SshTargetSpec {
  readonly pool: PoolSpec;
  readonly host: HostSpec;
}

/** The configuration of a pool whose only host is this sshd. */
export function sshTarget(
  sshd: Pick<TestSshd, 'address' | 'port' | 'user' | 'identityFile' | 'knownHostsFile'>,
  ssh: Partial<SshSpec> = {},
): SshTargetSpec {
  const host = { name: sshd.address, address: sshd.address, port: sshd.port };
  return {
    pool: localPool([host], {
      user: sshd.user,
      identity: { file: sshd.identityFile },
      knownHosts: sshd.knownHostsFile,
      connectTimeoutMs: 10_000,
      sftp: 'subsystem',
      jumps: [],
      ...ssh,
    }),
    host,
  };
}

export function localPool(hosts: readonly HostSpec[], ssh?: SshSpec): PoolSpec {
  return {
    name: 'lbs',
    hosts,
    ssh,
    haproxy: { socket: undefined, masterSocket: undefined },
    verify: { connect: [], handshakes: 0, timeoutMs: 1_000 },
    reload: undefined,
    parallel: 1,
    stopAfter: 3,
  };
}

/** The real thing, with the machine's clock. */
export const openSession = openHostSession({
  readSecret: async (ref) => {
    if (!('file' in ref)) throw new Error('the lab keeps its secrets in files');
    return readFile(ref.file, 'utf8');
  },
  clock: {
    now: () => new Date(),
    monotonicMs: () => performance.now(),
    sleep: async (ms, { signal }) => sleep(ms, undefined, { signal }),
  },
  random: { uniform: Math.random },
});
