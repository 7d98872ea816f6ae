import { labDirectory, labPaths } from '../setup/lab.mjs';
import { legoPath, newerHaproxyPath, newerPebblePath } from '../setup/newer-debian.mjs';

/** Absolute paths of the lab's real programs, and what they need in their environment. */
export interface Programs {
  readonly haproxy: string;
  /** Debian 13's HAProxy, with libraries of its own; fetched for tests only. */
  readonly newerHaproxy: string;
  /** The ACME client that Kolla uses today; fetched for tests only. */
  readonly lego: string;
  readonly sshd: string;
  readonly ssh: string;
  readonly sshKeygen: string;
  readonly sftp: string;
  readonly sftpServer: string;
  readonly pebble: string;
  /** Debian 13's Pebble, with renewal information (RFC 9773); fetched for tests only. */
  readonly pebbleWithAri: string;
  readonly challtestsrv: string;
  readonly wrk: string;
  /** For LD_PRELOAD: answers getpwnam(3) from files (nss_wrapper(1)). */
  readonly nssWrapper: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Throws when the programs are not on this machine yet: `node test/setup/ensure.mjs` brings them. */
export function programs(): Programs {
  const paths = labPaths();
  if (paths === undefined) {
    throw new Error(
      `the lab's programs are not in ${labDirectory()}: run "node test/setup/ensure.mjs" first`,
    );
  }
  const { libraryPath, ...absolute } = paths;
  const { PATH = '/usr/bin:/bin' } = process.env;
  const newer = { pebbleWithAri: newerPebblePath(), newerHaproxy: newerHaproxyPath(), lego: legoPath() };
  return { ...absolute, ...newer, env: { PATH, LD_LIBRARY_PATH: libraryPath } };
}

/** The unprivileged account under which sshd and HAProxy run. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** A uid that nobody has when tests run as root (root could write everywhere), else the caller's own. */
export function labAccount(): Account {
  const uid = process.getuid?.() ?? 0;
  if (uid !== 0) return { name: 'haproxy', uid, gid: process.getgid?.() ?? uid };
  return { name: 'haproxy', uid: 64001, gid: 64001 };
}
