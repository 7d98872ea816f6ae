import type { HostSpec, PoolSpec, SshSpec } from '../domain/model.ts';
import type { HostSession } from '../ports/host-session.ts';
import { connectSsh, type SshSurroundings } from './connect.ts';
import { endpointText, hostLabel } from './host-label.ts';
import { SshSession } from './ssh-session.ts';
import { DIRECT } from './tcp.ts';

export async function openSshSession(
  { pool, host, ssh }: { pool: PoolSpec; host: HostSpec; ssh: SshSpec },
  surroundings: SshSurroundings,
  options: { signal: AbortSignal },
): Promise<HostSession> {
  const label = hostLabel(pool, host);
  const { user, identity, connectTimeoutMs } = ssh;
  const { address, port } = host;
  const connection = await connectSsh(
    { label: `${label} (${endpointText(host)})`, address, port, user, identity, connectTimeoutMs },
    ssh.knownHosts,
    DIRECT,
    surroundings,
    options,
  );
  return new SshSession(connection, { host: label, account: `the account ${user}`, sftp: ssh.sftp });
}
