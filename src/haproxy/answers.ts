import type { ErrorCode, Retry } from '../domain/errors.ts';
import type { LoadedCertificate } from '../domain/observation.ts';

/**
 * HAProxy's runtime API answers in text made for people (management.txt, sections 9.3 and 9.4). This file
 * alone knows that text; everything else sees the types below.
 */

export interface CertificateList {
  /** The path of the one pending transaction of the process, whoever made it. */
  readonly pending: string | undefined;
  readonly paths: readonly string[];
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly retry: Retry;
  /** HAProxy's own words, on one line. */
  readonly reason: string;
  readonly remedy: string | undefined;
}

/** Every answer of a command ends with an empty line. */
export function splitAnswers(text: string): readonly string[] {
  return text
    .split(/(?<=\n)\n/)
    .map((answer) => answer.trimEnd())
    .filter((answer) => answer !== '');
}

/** `Version:` of `show info`. */
export function readVersion(answer: string): string | undefined {
  return /^Version: (\S+)/m.exec(answer)?.[1];
}

/** `show cli level` */
export function readLevel(answer: string): 'admin' | 'operator' | 'user' | undefined {
  const level = answer.trim();
  return level === 'admin' || level === 'operator' || level === 'user' ? level : undefined;
}

/** The size of one buffer (`tune.bufsize`) as `show pools` tells it. */
export function readBufferBytes(answer: string): number | undefined {
  const bytes = /Pool buffer \((\d+) bytes\)/.exec(answer)?.[1];
  return bytes === undefined ? undefined : Number(bytes);
}

/** `show ssl cert` without an argument; the pending transaction is marked with a star. */
export function readCertificateList(answer: string): CertificateList | undefined {
  if (!answer.startsWith('#')) return undefined;
  const lines = answer.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return {
    pending: lines.find((line) => line.startsWith('*'))?.slice(1),
    paths: lines.filter((line) => !line.startsWith('*')),
  };
}

/** `show ssl crt-list LIST`: the paths it names; undefined for a list that HAProxy does not know. */
export function readCrtList(answer: string): readonly string[] | undefined {
  if (!answer.startsWith('#')) return undefined;
  return pathsInCrtList(answer);
}

/** A crt-list, as its file or HAProxy shows it: `PATH [OPTIONS] FILTERS` on each line (configuration.txt, `crt-list`). */
export function pathsInCrtList(text: string): readonly string[] {
  return text.split('\n').flatMap((line) => {
    const path = line.trim().split(/[\s[]/, 1)[0] ?? '';
    return path === '' || path.startsWith('#') ? [] : [path];
  });
}

/** `help`: whether this HAProxy, at the level of this socket, can add a certificate while it runs (since 2.2). */
export function readCanAdd(help: string): boolean {
  const needed = ['new ssl cert', 'add ssl crt-list', 'del ssl crt-list', 'del ssl cert'];
  return needed.every((command) => new RegExp(`^\\s*${command} `, 'm').test(help));
}

/** `new ssl cert`, `add ssl crt-list` and their `del`: what they did, in one of these words, or why not. */
export function readListChange(answer: string): 'done' | Refusal {
  if (
    /^(?:New empty certificate store .*|Certificate '.*' deleted!|Entry '.*' deleted in crtlist '.*'!|Success!)$/m.test(
      answer,
    )
  )
    return 'done';
  return readRefusal(answer);
}

/** `show ssl cert PATH`: undefined for a path that HAProxy does not know, or an entry without a certificate. */
export function readCertificate(answer: string): LoadedCertificate | undefined {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(answer)?.[1];
  const fingerprint1 = field('SHA1 FingerPrint')?.toLowerCase() ?? '';
  const notAfter = new Date(field('notAfter') ?? '');
  const [subject, issuer] = [field('Subject'), field('Issuer')];
  const whole = /^[0-9a-f]{40}$/.test(fingerprint1) && !Number.isNaN(notAfter.getTime());
  if (!whole || subject === undefined || issuer === undefined) return undefined;
  return { fingerprint1, notAfter, selfSigned: subject === issuer };
}

/** `show ssl cert PATH` of an entry that `new ssl cert` made and nothing was set in. */
export const isEmptyEntry = (answer: string): boolean => /^Status: Empty$/m.test(answer);

/** Every answer ends with an empty line; one that does not was cut short. */
export const isWhole = (raw: string): boolean => raw === '' || raw === '\n' || raw.endsWith('\n\n');

/** What `show proc` of the master CLI lists. */
export interface ProcessList {
  readonly workers: readonly number[];
  /** Those of before a reload, which serve their connections to the end. */
  readonly oldWorkers: readonly number[];
  /** Reloads that the master gave up since the last good one; undefined before HAProxy 2.5. */
  readonly failedReloads: number | undefined;
}

/** `show proc`: undefined for what is no list of processes, or has no worker at all. */
export function readProcesses(answer: string): ProcessList | undefined {
  const [present = '', old = ''] = answer.split(/^# old workers$/m);
  const pids = (text: string) => Array.from(text.matchAll(/^(\d+)\s+worker\s/gm), ([, pid]) => Number(pid));
  const [workers, oldWorkers] = [pids(present), pids(old)];
  if (workers.length + oldWorkers.length === 0) return undefined;
  const failed = /^\d+\s+master\s.*\[failed: (\d+)\]/m.exec(present)?.[1];
  return { workers, oldWorkers, failedReloads: failed === undefined ? undefined : Number(failed) };
}

/** `Pid:` of `show info`: which worker answers. */
export function readPid(answer: string): number | undefined {
  const pid = /^Pid: (\d+)/m.exec(answer)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/** `Uptime_sec:` of `show info`, in milliseconds. */
export function readUptimeMs(answer: string): number | undefined {
  const seconds = /^Uptime_sec: (\d+)/m.exec(answer)?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}

/**
 * `reload` of the master CLI, which tells how it went since HAProxy 2.7. `unknown`: an older one says nothing, whatever
 * comes of it. `text` is what the new worker said when it failed.
 */
export function readReload(
  answer: string,
): { readonly state: 'succeeded' | 'unknown' } | { readonly state: 'failed'; readonly text: string } {
  const success = /^Success=([01])/m.exec(answer)?.[1];
  if (success === '1') return { state: 'succeeded' };
  if (success === undefined) return { state: 'unknown' };
  return { state: 'failed', text: complaintsIn(answer) };
}

/** What HAProxy complains of in its start-up messages, on one line: the rest are notices. */
export function complaintsIn(messages: string): string {
  const alerts = messages.split('\n').filter((line) => line.includes('[ALERT]'));
  const words = alerts.map((line) => line.replace(/^\[ALERT\]\s*(?:\(\d+\) : |\S+ \(\d+\) : )?/, '').trim());
  return oneLine((words.length > 0 ? words : [messages.trim()]).join(' '));
}

/** `Stopping:` of `show info`: whether the process has given its listeners up. */
export function readStopping(answer: string): boolean | undefined {
  const stopping = /^Stopping: (\d+)/m.exec(answer)?.[1];
  return stopping === undefined ? undefined : stopping !== '0';
}

/** True for the answer of a process in which another thread is at work on certificates: ask again. */
export function isLocked(answer: string): boolean {
  return answer.includes('Operations on certificates are currently locked!');
}

/** What became of `set ssl cert PATH`. `merged`: it went into a transaction that was pending already. */
export function readSet(answer: string, path: string): 'created' | 'merged' | Refusal {
  if (answer === `Transaction created for certificate ${path}!`) return 'created';
  if (/^Transaction updated for certificate /.test(answer)) return 'merged';
  return readRefusal(answer);
}

/** `answer` may go on with what was asked in the same line after the commit. */
export function readCommit(answer: string): 'committed' | Refusal {
  return /^Success!$/m.test(answer) ? 'committed' : readRefusal(splitAnswers(answer)[0] ?? '');
}

export function readAbort(answer: string): 'aborted' | 'nothing pending' | Refusal {
  if (answer.startsWith('Transaction aborted')) return 'aborted';
  return answer.includes('No ongoing transaction') ? 'nothing pending' : readRefusal(answer);
}

export function readRefusal(answer: string): Refusal {
  const firstLine = answer.split('\n', 1)[0] ?? '';
  if (answer === '') {
    return refused('later', 'HAProxy gave no answer', undefined);
  }
  if (answer.startsWith('Permission denied')) {
    const remedy = 'give the stats socket "level admin" in the global section of haproxy.cfg';
    return { code: 'ERR_HAPROXY_SOCKET', retry: 'never', reason: firstLine, remedy };
  }
  if (answer.startsWith('Unknown command')) {
    return refused('never', 'HAProxy does not know this command', 'run HAProxy 2.2 or newer');
  }
  if (answer.startsWith("Can't find the target PID")) {
    const reason = `the master answers, but it has no worker: ${firstLine}`;
    return { code: 'ERR_HAPROXY_SOCKET', retry: 'later', reason, remedy: undefined };
  }
  if (answer.includes('not referenced by the configuration')) {
    return refused('never', firstLine, 'name this path in a crt argument of haproxy.cfg and reload HAProxy');
  }
  if (isLocked(answer)) {
    return { code: 'ERR_HAPROXY_BUSY', retry: 'now', reason: oneLine(answer), remedy: undefined };
  }
  return refused(
    'later',
    oneLine(answer),
    answer.includes('unable to load SSL') ? UNLOADABLE_REMEDY : undefined,
  );
}

/** HAProxy keeps OpenSSL's own reason to its log. */
const UNLOADABLE_REMEDY =
  "see HAProxy's log for OpenSSL's reason; where its crypto policy refuses the key, change that policy, or give the certificate another key type (certificates.NAME.key) and run `kacme renew NAME --force`";

function refused(retry: Retry, reason: string, remedy: string | undefined): Refusal {
  return { code: 'ERR_HAPROXY_REFUSED', retry, reason, remedy };
}

function oneLine(answer: string): string {
  const line = answer.replaceAll(/\s*\n\s*/g, ' ');
  return line.length > 300 ? `${line.slice(0, 300)}...` : line;
}
