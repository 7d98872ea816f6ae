import { describePause, type FailedChanges } from './change-pause.ts';
import { familyName } from './dual.ts';
import type { DeploymentSpec } from './model.ts';
import type { FileObservation, HostObservation, LoadedCertificate, PlaceObservation } from './observation.ts';
import type { CertificateFacts } from './x509.ts';

/** What a deployment should hold: one bundle at one generation, and how kacme knows its own. */
export interface DesiredPlace {
  readonly generation: number;
  readonly facts: CertificateFacts;
  /** SHA-256 of the rendered PEM file, lower-case hex. */
  readonly pemSha256: string;
  readonly pemBytes: number;
  /** The configured identifiers, against which coverage is measured. */
  readonly identifiers: readonly string[];
  /** SHA-256 and SHA-1 fingerprints of every bundle kacme ever had for this certificate. */
  readonly history: ReadonlySet<string>;
  /** It is revoked: hosts that hold it serve it until its successor comes, and no other host gets it. */
  readonly revoked: boolean;
}

/**
 * How HAProxy gets the bundle: a hot `swap` of what it has loaded, an `add` to a crt-list while it runs, a `reload` where
 * neither can be done, or not at all: `install` changes files alone.
 */
export type Means = 'swap' | 'add' | 'reload' | 'install';

/** Whether HAProxy may be reloaded on a host now, and if not, why. */
export type ReloadOption =
  | { readonly state: 'possible' }
  | { readonly state: 'impossible' }
  | { readonly state: 'waits'; readonly reason: string };

export type PlaceDecision =
  /** As it should be; `memory` tells whether HAProxy has it loaded (and handshakes can be asked). */
  | { readonly action: 'none'; readonly memory: boolean; readonly reason: string }
  | {
      readonly action: 'change';
      readonly means: Means;
      readonly writeFile: boolean;
      /** Whether the crt-list's file has to name the path from now on. */
      readonly listFile: boolean;
      /** Whether HAProxy will have the bundle loaded after this change, so that handshakes can be asked. */
      readonly memory: boolean;
      /** HAProxy could not start from the file that is there now, if any. */
      readonly lacksFile: boolean;
      readonly reason: string;
      /** Why the place is not in sync even after this change. */
      readonly remains: string | undefined;
    }
  /** Not as it should be, and not to be touched. */
  | {
      readonly action: 'leave';
      readonly state: 'foreign' | 'kept' | 'out of sync';
      readonly reason: string;
      /** What it waits after. */
      readonly paused?: FailedChanges;
    };

/** Space for `set ssl cert PATH <<\n` and the line that ends the payload. */
const COMMAND_OVERHEAD_BYTES = 64;

/** Decides one place of one host. Pure: what it is given is all it knows. `paused`: HAProxy is not to be changed now. */
export function decidePlace(
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  observed: HostObservation,
  reload: ReloadOption,
  now: Date,
  paused?: FailedChanges,
): PlaceDecision {
  const place = observed.places[deployment.path];
  if (place === undefined) return { action: 'leave', state: 'out of sync', reason: 'not observed' };

  const fileDrift = describeFileDrift(desired, deployment, place);
  const listDrift = describeListDrift(deployment, place);
  const memory = unlessPaused(judgeMemory(desired, deployment, observed, place, reload), paused);
  const remains = memory.remains ?? describeOldWorkers(observed);
  if (fileDrift === undefined && listDrift === undefined && memory.means === undefined) {
    if (remains !== undefined) return outOfSync(remains, memory);
    return memory.loaded
      ? { action: 'none', memory: true, reason: 'file and memory hold the bundle' }
      : { action: 'none', memory: false, reason: `file holds the bundle; ${memory.reason}` };
  }

  if (desired.revoked) {
    const reason = 'the bundle is revoked and not installed any more: its successor is, once it is issued';
    return { action: 'leave', state: 'out of sync', reason };
  }

  const objection = objectionTo(desired, deployment, place, now);
  if (objection !== undefined) return { action: 'leave', ...objection };

  const lacksFile = place.file.state === 'absent' || place.file.content.state === 'broken';
  // Without the line HAProxy starts without the bundle; with it, perhaps not at all.
  if (memory.paused !== undefined && listDrift !== undefined) return outOfSync(memory.reason, memory);
  // File and memory change together, so that a failed reload can be undone; only a file that is no use comes at once.
  if (memory.waits && place.loaded !== undefined && !lacksFile) return outOfSync(memory.reason, memory);
  const reasons = [fileDrift, listDrift, memory.means === undefined ? undefined : memory.reason];
  return {
    action: 'change',
    means: memory.means ?? 'install',
    writeFile: fileDrift !== undefined,
    listFile: listDrift !== undefined,
    memory: memory.loaded || memory.means !== undefined,
    lacksFile,
    reason: reasons.filter((reason) => reason !== undefined).join('; '),
    remains,
  };
}

const outOfSync = (reason: string, { paused }: Memory): PlaceDecision => ({
  action: 'leave',
  state: 'out of sync',
  reason,
  ...(paused === undefined ? {} : { paused }),
});

/** An old worker that listens takes a share of the new connections, with the certificate of its time. */
function describeOldWorkers({ haproxy }: HostObservation): string | undefined {
  const pids = haproxy.state === 'running' ? (haproxy.workers?.listening ?? []) : [];
  if (pids.length === 0) return undefined;
  const who =
    pids.length === 1
      ? `an old worker of HAProxy still listens, or does not answer (pid ${pids[0]})`
      : `${pids.length} old workers of HAProxy still listen, or do not answer (pids ${pids.join(', ')})`;
  return `${who}; it has the certificate of its time: see what keeps it, and end it on the host`;
}

function describeFileDrift(
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  place: PlaceObservation,
): string | undefined {
  const files: [string, FileObservation][] = [
    [deployment.file, place.file],
    ...place.copies.map((copy, i): [string, FileObservation] => [
      deployment.copies[i] ?? `copy ${i + 1}`,
      copy,
    ]),
  ];
  for (const [path, file] of files) {
    const drift = describeOneFile(desired, deployment, file);
    if (drift !== undefined) return `${path} ${drift}`;
  }
  return undefined;
}

function describeListDrift({ crtList, path }: DeploymentSpec, place: PlaceObservation): string | undefined {
  if (crtList === undefined || place.crtList?.inFile !== false) return undefined;
  return `${crtList.file} does not list ${path}`;
}

function describeOneFile(
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  file: FileObservation,
): string | undefined {
  if (file.state === 'absent') return 'is missing';
  if (file.sha256 !== desired.pemSha256) {
    return file.content.state === 'broken'
      ? `is not loadable: ${file.content.reason}`
      : `holds another certificate (valid until ${file.content.facts.notAfter.toISOString()})`;
  }
  if (file.mode !== deployment.mode)
    return `has mode ${octal(file.mode)} instead of ${octal(deployment.mode)}`;
  if (deployment.owner !== undefined && file.uid !== deployment.owner) {
    return `belongs to uid ${file.uid} instead of ${deployment.owner}`;
  }
  if (deployment.group !== undefined && file.gid !== deployment.group) {
    return `belongs to gid ${file.gid} instead of ${deployment.group}`;
  }
  return undefined;
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

interface Memory {
  /** Undefined when HAProxy's memory is not to be changed, or cannot be now. */
  readonly means: Exclude<Means, 'install'> | undefined;
  /** Whether it holds the bundle already. */
  readonly loaded: boolean;
  readonly reason: string;
  readonly remains: string | undefined;
  /** Whether it will be changed later. */
  readonly waits: boolean;
  readonly paused?: FailedChanges;
}

const UNCHANGED = { means: undefined, loaded: false, remains: undefined, waits: false } as const;

function unlessPaused(memory: Memory, paused: FailedChanges | undefined): Memory {
  if (paused === undefined || memory.means === undefined) return memory;
  const reason = `${memory.reason}; ${describePause(paused)}`;
  return { ...UNCHANGED, reason, remains: reason, waits: true, paused };
}

function judgeMemory(
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  { haproxy }: HostObservation,
  place: PlaceObservation,
  reload: ReloadOption,
): Memory {
  const { loaded } = place;
  if (haproxy.state === 'stopped') return { ...UNCHANGED, reason: `HAProxy is stopped (${haproxy.reason})` };
  const { path, crtList } = deployment;
  const neededBytes = desired.pemBytes + path.length + COMMAND_OVERHEAD_BYTES;
  const tooLarge = `the bundle of ${desired.pemBytes} bytes does not fit HAProxy's buffer of ${haproxy.bufferBytes} bytes`;
  const addable = place.crtList?.inMemory === 'addable';
  if (loaded?.fingerprint1 === desired.facts.fingerprint1 && !addable)
    return { ...UNCHANGED, loaded: true, reason: 'memory holds the bundle' };
  if (loaded === undefined && !addable) {
    const obstacle = `HAProxy has no certificate loaded from ${path}`;
    return crtList === undefined
      ? byReload(reload, obstacle, 'name it in a crt argument and reload HAProxy')
      : byReload(
          reload,
          `${obstacle} and cannot add one to ${crtList.path} while it runs`,
          'see that a bind names that crt-list, and reload HAProxy',
        );
  }
  if (loaded?.fingerprint1 !== desired.facts.fingerprint1 && neededBytes >= haproxy.bufferBytes)
    return byReload(reload, tooLarge, 'reload HAProxy to load it, and raise tune.bufsize for the next time');
  if (addable)
    return { ...UNCHANGED, means: 'add', reason: `HAProxy does not list ${path} in ${crtList?.path}` };
  const until = loaded?.notAfter.toISOString();
  const reason = `HAProxy has another certificate in memory (valid until ${until})`;
  return { ...UNCHANGED, means: 'swap', reason };
}

/** What HAProxy cannot be given while it runs; `otherwise` is what an operator does when kacme may not reload it. */
function byReload(reload: ReloadOption, obstacle: string, otherwise: string): Memory {
  switch (reload.state) {
    case 'possible':
      return { ...UNCHANGED, means: 'reload', reason: `reload because ${obstacle}` };
    case 'impossible': {
      const reason = `${obstacle}: ${otherwise}`;
      return { ...UNCHANGED, reason, remains: reason };
    }
    case 'waits': {
      const reason = `${obstacle}; ${reload.reason}`;
      return { ...UNCHANGED, reason, remains: reason, waits: true };
    }
  }
}

type Objection = { readonly state: 'foreign' | 'kept' | 'out of sync'; readonly reason: string };

/** Promises "never worse" and "a foreign certificate is left alone". */
function objectionTo(
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  place: PlaceObservation,
  now: Date,
): Objection | undefined {
  const present = [place.file, ...place.copies].flatMap((file) =>
    file.state === 'present' && file.content.state === 'loadable' ? [file.content.facts] : [],
  );
  for (const facts of present) {
    const objection = objectionToReplacing(facts, 'file', desired, deployment, now);
    if (objection !== undefined) return objection;
  }
  const { loaded } = place;
  const holdsSomething = present.length > 0 || loaded !== undefined;
  if (holdsSomething && deployment.family !== undefined && desired.facts.family !== deployment.family) {
    const family = familyName(deployment.family);
    const reason = `waits for a bundle with an ${family} key: the present one would serve none of the clients that need it here`;
    return { state: 'out of sync', reason };
  }
  if (loaded === undefined || present.some((facts) => facts.fingerprint1 === loaded.fingerprint1))
    return undefined;
  return objectionToReplacing(loaded, 'memory', desired, deployment, now);
}

function objectionToReplacing(
  held: CertificateFacts | LoadedCertificate,
  where: 'file' | 'memory',
  desired: DesiredPlace,
  deployment: DeploymentSpec,
  now: Date,
): Objection | undefined {
  const trusted = !held.selfSigned && now < held.notAfter && !('notBefore' in held && now < held.notBefore);
  if (!trusted || held.fingerprint1 === desired.facts.fingerprint1) return undefined;
  const until = held.notAfter.toISOString();

  if (!desired.history.has(held.fingerprint1) && !deployment.takeOver) {
    return {
      state: 'foreign',
      reason: `${where} holds a valid certificate that is not kacme's (until ${until}): left alone, since takeOver is not set`,
    };
  }
  if (desired.facts.selfSigned) {
    return {
      state: 'kept',
      reason: `${where} holds a valid certificate (until ${until}); a self-signed one would be worse`,
    };
  }
  if (now >= desired.facts.notAfter) {
    return {
      state: 'kept',
      reason: `${where} holds a valid certificate (until ${until}); the bundle has expired`,
    };
  }
  if (!('identifiers' in held)) return undefined;
  const lost = desired.identifiers.filter(
    (identifier) => held.identifiers.includes(identifier) && !desired.facts.identifiers.includes(identifier),
  );
  if (lost.length === 0) return undefined;
  return {
    state: 'kept',
    reason: `${where} holds a valid certificate that covers ${lost.join(', ')}, which the bundle does not`,
  };
}
