import { dirname } from 'node:path/posix';
import type { ErrorCode, KacmeError } from './errors.ts';
import { type Finding, Findings } from './finding.ts';
import type { DeploymentSpec } from './model.ts';
import type { FileObservation, HostObservation } from './observation.ts';

/** What trying told about a host, besides what it holds. */
export interface HostTrial {
  /** What the admin socket permits; undefined when it was not asked. */
  readonly socketLevel: 'admin' | 'operator' | 'user' | undefined;
  /** Directories in which a file was made and removed again, or why not. */
  readonly directories: readonly { readonly path: string; readonly refusal: KacmeError | undefined }[];
}

export interface HostFacts {
  /** `pool/host` */
  readonly subject: string;
  readonly observation: HostObservation;
  readonly deployments: readonly DeploymentSpec[];
  /** Undefined when nothing may be tried now. */
  readonly trial: HostTrial | undefined;
  /** Whether kacme may reload this HAProxy where a bundle cannot be swapped. */
  readonly reloads: boolean;
  /** Bytes of the active bundle, by `DeploymentSpec.path`. */
  readonly bundleBytes: ReadonlyMap<string, number>;
}

/** `show ssl cert` (management.txt of HAProxy), without which nobody could tell what is loaded. */
const LEAST_VERSION = [2, 2] as const;

/** `set ssl cert`, spaces, `<<`, the end of the payload, and the prefix of a master CLI. */
const COMMAND_BYTES = 40;

/** What is wrong with a host that could be looked at, and what is right. */
export function judgeHost(facts: HostFacts): readonly Finding[] {
  const findings = new Findings('hosts', facts.subject);
  findings.ok('login', 'the host key is the pinned one, and the account logs in');
  judgeHaproxy(facts, findings);
  judgeDirectories(facts, findings);
  for (const deployment of facts.deployments) judgeFiles(facts, deployment, findings);
  return findings.list;
}

/** What a host that could not be looked at says. */
export function judgeUnreadableHost(subject: string, error: KacmeError): readonly Finding[] {
  const findings = new Findings('hosts', subject);
  findings.error(CHECKS[error.code] ?? 'login', error);
  return findings.list;
}

const CHECKS: Readonly<Partial<Record<ErrorCode, string>>> = {
  ERR_HOST_FILES: 'files',
  ERR_HOST_NOT_WRITABLE: 'files',
  ERR_HAPROXY_SOCKET: 'haproxy',
  ERR_HAPROXY_REFUSED: 'haproxy',
  ERR_HAPROXY_BUSY: 'haproxy',
};

function judgeHaproxy(
  { observation: { haproxy }, deployments, trial, bundleBytes, reloads }: HostFacts,
  findings: Findings,
) {
  if (haproxy.state === 'stopped') {
    const remedy =
      'start HAProxy; if it runs, check haproxy.socket, its permissions, and that sshd may forward to it';
    findings.warning('haproxy', haproxy.reason, remedy);
    return;
  }
  const { version, bufferBytes } = haproxy;
  if (isOld(version))
    findings.failed(
      'haproxy',
      `version ${version} cannot show its certificates`,
      'update HAProxy to 2.2 or newer',
    );
  else findings.ok('haproxy', `version ${version}`);

  const level = trial?.socketLevel;
  if (level === 'admin') findings.ok('socket level', 'admin');
  else if (level !== undefined)
    findings.failed(
      'socket level',
      `the socket permits what a ${level} may do, which is not to change certificates`,
      'add "level admin" to this socket (stats socket in the global section of haproxy.cfg), and reload HAProxy',
    );

  for (const { path } of deployments) {
    const bytes = (bundleBytes.get(path) ?? 0) + Buffer.byteLength(path) + COMMAND_BYTES;
    if (bytes >= bufferBytes) {
      const reason = `the bundle for ${path} takes ${bytes} bytes as a command, HAProxy's buffer ${bufferBytes}`;
      const remedy = `set "tune.bufsize ${Math.ceil((bytes + 1) / 16_384) * 16_384}" in the global section of haproxy.cfg, use an ECDSA key or a shorter chain`;
      if (reloads) findings.warning('buffer', `${reason}: each renewal is a reload`, remedy);
      else findings.failed('buffer', reason, remedy);
    } else if (bundleBytes.has(path)) findings.ok('buffer', `${path}: ${bytes} of ${bufferBytes} bytes`);
  }
}

function judgeDirectories({ trial, deployments, observation }: HostFacts, findings: Findings): void {
  if (trial === undefined) {
    const remedy = 'run kacme check again when the other kacme has finished, or ask that one';
    findings.warning(
      'directories',
      'whether files can be replaced was not tried: another kacme acts',
      remedy,
    );
    return;
  }
  for (const { path, refusal } of trial.directories) {
    if (refusal === undefined) {
      findings.ok('directory', `${path}: files can be made and replaced`);
      continue;
    }
    const held = deployments.some(
      ({ file, path: name }) => dirname(file) === path && observation.places[name]?.file.state === 'present',
    );
    findings.error('directory', refusal);
    if (held && refusal.code === 'ERR_HOST_NOT_WRITABLE')
      findings.warning(
        'directory',
        `${path}: the file there could at most be overwritten in place, which kacme does not do: a crash would leave half a bundle`,
        `give the account write permission on ${path} itself`,
      );
  }
}

function judgeFiles({ observation }: HostFacts, deployment: DeploymentSpec, findings: Findings): void {
  const unreadable = observation.unreadable?.[deployment.path];
  if (unreadable !== undefined) findings.error('file', unreadable);
  const place = observation.places[deployment.path];
  if (place === undefined) return;
  judgeFile(deployment.file, place.file, deployment, findings);
  for (const [index, copy] of deployment.copies.entries())
    judgeFile(copy, place.copies[index] ?? { state: 'absent' }, deployment, findings);
  if (observation.haproxy.state === 'running' && place.loaded === undefined)
    findings.warning(
      'crt',
      `HAProxy has no certificate loaded under ${deployment.path}`,
      `name ${deployment.path} in a crt argument of haproxy.cfg and reload HAProxy; deployments.path is what HAProxy calls it, file what SSH does`,
    );
}

function judgeFile(
  path: string,
  file: FileObservation,
  { mode, owner, group }: DeploymentSpec,
  findings: Findings,
): void {
  if (file.state === 'absent') {
    findings.ok('file', `${path}: not there yet, kacme makes it`);
    return;
  }
  const surplus = file.mode & 0o077 & ~mode;
  const ownerDiffers = (owner ?? file.uid) !== file.uid || (group ?? file.gid) !== file.gid;
  if (surplus !== 0)
    findings.warning(
      'file',
      `${path} has mode ${octal(file.mode)}: others than its owner can get at the private key`,
      `chmod ${octal(mode)} ${path}; kacme sets that with its next change`,
    );
  else if (ownerDiffers)
    findings.warning(
      'file',
      `${path} belongs to ${file.uid}:${file.gid}, not to ${owner ?? file.uid}:${group ?? file.gid} as configured`,
      'kacme gives it to them with its next change, if its account may: else correct owner and group of the deployment',
    );
  else if (file.content.state === 'broken')
    findings.warning('file', `${path}: ${file.content.reason}`, 'kacme replaces it: run kacme distribute');
  else findings.ok('file', `${path}: mode ${octal(file.mode)}, owner ${file.uid}:${file.gid}`);
}

const octal = (mode: number): string => `0${mode.toString(8).padStart(3, '0')}`;

/** Versions are like `2.6.12-1+deb12u4`; one that cannot be read is not called old. */
function isOld(version: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || minor === undefined) return false;
  const [leastMajor, leastMinor] = LEAST_VERSION;
  return Number(major) < leastMajor || (Number(major) === leastMajor && Number(minor) < leastMinor);
}
