import { programs } from '../support/programs.ts';
import { localPool, openSession, sshTarget } from '../support/ssh-target.ts';
import { type SshdOptions, startSshd } from '../support/sshd.ts';
import { describeHostSession, readOnlyDirectory, type Transport } from './host-session.contract.ts';

async function overSsh(options: SshdOptions, sftp: 'subsystem' | 'exec'): Promise<Transport> {
  const sshd = await startSshd(options);
  const { pool, host } = sshTarget(sshd, {
    sftp: sftp === 'subsystem' ? sftp : { exec: programs().sftpServer },
  });
  return {
    open: ({ signal }) => openSession(pool, host, { signal }),
    [Symbol.asyncDispose]: () => sshd.close(),
  };
}

describeHostSession({
  name: 'the hardened account: internal-sftp and one forwarded socket',
  start: (forward) => overSsh({ forward }, 'subsystem'),
  commands: false,
  lockedDirectory: readOnlyDirectory,
});

describeHostSession({
  name: 'an account with a shell and no sftp subsystem: an executed sftp-server',
  start: () => overSsh({ account: 'shell' }, 'exec'),
  commands: true,
  lockedDirectory: readOnlyDirectory,
});

describeHostSession({
  name: 'this machine',
  commands: true,
  start: async () => {
    const host = { name: 'localhost', address: '127.0.0.1', port: 22 };
    return {
      open: ({ signal }) => openSession(localPool([host]), host, { signal }),
      [Symbol.asyncDispose]: async () => {},
    };
  },
  // Tests that run as root could write to every directory of an ordinary file system.
  lockedDirectory: async (directory) =>
    process.getuid?.() === 0 ? '/sys/kernel' : readOnlyDirectory(directory),
});
