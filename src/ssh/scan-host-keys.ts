import type { Duplex } from 'node:stream';
import { Client } from 'ssh2';
import { reportError } from '../domain/errors.ts';
import { HostError } from '../domain/host-error.ts';
import type { HostKeyScan, HostKeyStanding, ScanHostKeys, SshdTarget } from '../ports/host-key-scan.ts';
import { bounded } from './bounded.ts';
import { attempt, type SshDependencies, type SshSurroundings } from './connect.ts';
import type { Way } from './connection.ts';
import { droppedEarly, type Endpoint, unreachable, wordsOf } from './connection-errors.ts';
import { endpointText } from './host-label.ts';
import { JumpHosts } from './jump-hosts.ts';
import {
  ALGORITHMS_BY_KEY,
  fingerprintOf,
  type HostKeyAlgorithm,
  hostKeyType,
  judgeHostKey,
  type KnownHosts,
  knownHostsLine,
  type PinnedKey,
} from './known-hosts.ts';
import { KnownHostsFiles } from './known-hosts-file.ts';
import { LoginTurns } from './login-turns.ts';

/** Shows what servers present; whether that is right, only the operator can tell, on the hosts. */
export function scanHostKeys(dependencies: SshDependencies): ScanHostKeys {
  const knownHostsFiles = new KnownHostsFiles();
  const surroundings = { ...dependencies, knownHostsFiles, turns: new LoginTurns() };
  const jumpHosts = new JumpHosts(surroundings);
  return async (target, { signal }) => {
    const { connectTimeoutMs, jumps, hostKeyName: _, ...sshd } = target;
    const keys: HostKeyScan['keys'][number][] = [];
    try {
      const knownHosts = await knownHostsFiles.readIfThere(target.knownHosts, { signal });
      const way = jumpHosts.wayThrough(jumps, connectTimeoutMs);
      for (const algorithms of ALGORITHMS_BY_KEY) {
        const key = await presentedKey(endpointOf(target), algorithms, way, surroundings, { signal });
        if (key !== undefined) keys.push(describeKey(target, key, knownHosts));
      }
      return { ...sshd, keys, failure: undefined };
    } catch (error) {
      signal.throwIfAborted();
      return { ...sshd, keys, failure: reportError(error) };
    }
  };
}

function endpointOf({ pool, name, role, address, port, connectTimeoutMs, jumps }: SshdTarget): Endpoint {
  const place = [{ address, port }, ...jumps.toReversed()].map(endpointText).join(' through ');
  const label = role === 'host' ? `${pool}/${name} (${place})` : `jump host ${place}`;
  return { label, name, address, port, connectTimeoutMs };
}

function describeKey({ address, port, hostKeyName: alias }: SshdTarget, key: Buffer, knownHosts: KnownHosts) {
  const endpoint = { host: address, port, alias };
  const keyType = hostKeyType(key) ?? 'unknown type';
  const { standing, pinned } = standingOf(keyType, judgeHostKey(knownHosts, endpoint, key));
  return {
    keyType,
    fingerprint: fingerprintOf(key),
    standing,
    pinnedAt: pinned.map(({ file, line }) => `${file}:${line}`),
    knownHostsLine: knownHostsLine(endpoint, key),
  };
}

function standingOf(
  keyType: string,
  verdict: ReturnType<typeof judgeHostKey>,
): { standing: HostKeyStanding; pinned: readonly PinnedKey[] } {
  switch (verdict.verdict) {
    case 'known':
      return { standing: 'pinned', pinned: [verdict.pinned] };
    case 'revoked':
      return { standing: 'revoked', pinned: [verdict.pinned] };
    case 'unknown':
      return { standing: 'new', pinned: [] };
    case 'changed': {
      const pinned = verdict.pinned.filter((other) => other.keyType === keyType);
      return { standing: pinned.length > 0 ? 'differs' : 'new', pinned };
    }
  }
}

/** The key that the server has for these algorithms; undefined when it has none. Hangs up before any login. */
function presentedKey(
  target: Endpoint,
  algorithms: readonly HostKeyAlgorithm[],
  way: Way,
  surroundings: SshSurroundings,
  { signal }: { signal: AbortSignal },
): Promise<Buffer | undefined> {
  return attempt(
    target,
    way,
    surroundings,
    async (budget) => {
      const socket = await budget.spend((timeoutMs) => way.connect(target, { signal, timeoutMs }));
      try {
        return await budget.spend((timeoutMs) =>
          askForKey(target, socket, algorithms, { signal, timeoutMs }),
        );
      } finally {
        socket.destroy();
      }
    },
    { signal },
  );
}

async function askForKey(
  target: Endpoint,
  socket: Duplex,
  algorithms: readonly HostKeyAlgorithm[],
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<Buffer | undefined> {
  const client = new Client();
  let spoke = false;
  socket.once('data', () => {
    spoke = true;
  });
  try {
    return await bounded<Buffer | undefined>(
      (done) => {
        client.on('error', (error) => (offersNone(error) ? done(undefined, undefined) : done(error)));
        client.on('close', () => done(new Error('the server closed the connection')));
        client.connect({
          sock: socket,
          username: 'none', // never sent
          algorithms: { serverHostKey: [...algorithms] },
          // Must answer synchronously, and exactly false to refuse: the connection ends here.
          hostVerifier: (key: Buffer): boolean => {
            done(undefined, key);
            return false;
          },
          authHandler: () => socket.destroy(),
          readyTimeout: 0, // bounded here
          keepaliveInterval: 0,
        });
      },
      {
        until: [signal],
        timeoutMs,
        onTimeout: () =>
          unreachable(
            target,
            spoke ? 'exchange keys' : 'await the SSH banner',
            `no answer within ${target.connectTimeoutMs} ms`,
          ),
      },
    );
  } catch (error) {
    if (signal.aborted || error instanceof HostError || !(error instanceof Error)) throw error;
    throw spoke
      ? unreachable(target, 'exchange keys', wordsOf(error), error)
      : droppedEarly(target, '', error);
  }
}

/** ssh2 has no code for it. */
const offersNone = (error: Error): boolean => /no matching host key format/.test(error.message);
