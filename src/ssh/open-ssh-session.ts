import type { HostSpec, PoolSpec, SshSpec } from '../domain/model.ts';
import type { HostSession } from '../ports/host-session.ts';
import { connectSsh, type SshSurroundings } from './connect.ts';
import type { SshTarget } from './connection-errors.ts';
import { endpointText, hostLabel } from './host-label.ts';
import { JumpHosts } from './jump-hosts.ts';
import { SshSession } from './ssh-session.ts';

/** A host of a pool that is not local. */
export interface SshHost {
  readonly pool: PoolSpec;
  readonly host: HostSpec;
  readonly ssh: SshSpec;
}

/** Sessions over SSH, which share the connections to jump hosts. */
export class SshSessions {
  readonly #surroundings: SshSurroundings;
  readonly #jumpHosts: JumpHosts;

  constructor(surroundings: SshSurroundings) {
    this.#surroundings = surroundings;
    this.#jumpHosts = new JumpHosts(surroundings);
  }

  async open(sshHost: SshHost, options: { signal: AbortSignal }): Promise<HostSession> {
    const { pool, host, ssh } = sshHost;
    const target = targetOf(sshHost);
    const wayThere = () => this.#jumpHosts.wayThrough(ssh.jumps, ssh.connectTimeoutMs);
    const connection = await connectSsh(target, ssh.knownHosts, wayThere(), this.#surroundings, options);
    return new SshSession(connection, {
      host: hostLabel(pool, host),
      account: `the account ${ssh.user}`,
      sftp: ssh.sftp,
      fromJump: (to, options) => wayThere().connect({ ...target, ...to }, options),
    });
  }
}

function targetOf({ pool, host, ssh }: SshHost): SshTarget {
  const { user, identity, connectTimeoutMs, jumps } = ssh;
  const { name, address, port, hostKeyName } = host;
  const place = [host, ...jumps.toReversed()].map(endpointText).join(' through ');
  const label = `${hostLabel(pool, host)} (${place})`;
  return { label, name, address, port, hostKeyName, user, identity, connectTimeoutMs };
}
