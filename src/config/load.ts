import { readFile } from 'node:fs/promises';
import { KacmeError } from '../domain/errors.ts';
import type { KacmeConfig } from '../domain/model.ts';
import { ConfigError, type ConfigPath, formatPath } from './issue.ts';
import { parseSource, type Source } from './source.ts';
import { locate, type MapNode, type Mistake, overlay, type Position, plainOf, withoutEmpty } from './tree.ts';
import { type Validation, validate } from './validate.ts';

/** One configuration file and its content. */
export interface ConfigText {
  /** As the operator named it: what messages say. */
  readonly file: string;
  readonly text: string;
}

/**
 * Reads the files and overlays them in their order. Throws `ConfigError` (`ERR_CONFIG_INVALID`) with every
 * mistake of all files, or `ERR_CONFIG_UNREADABLE`. Secrets are not read: see `readSecret`.
 */
export async function loadConfig(
  paths: readonly string[],
  { signal }: { signal: AbortSignal },
): Promise<KacmeConfig> {
  const files = await Promise.allSettled(
    paths.map(async (file) => ({ file, text: await readFile(file, { encoding: 'utf8', signal }) })),
  );
  signal.throwIfAborted();
  const failures = files.flatMap((outcome, index) =>
    outcome.status === 'rejected' ? [{ file: paths[index] ?? '', cause: outcome.reason }] : [],
  );
  if (failures.length > 0) throw unreadable(failures);
  return parseConfig(files.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])));
}

/** The part of `loadConfig` that needs no files. Throws `ConfigError`. */
export function parseConfig(texts: readonly ConfigText[]): KacmeConfig {
  const sources = texts.map(({ file, text }) => parseSource(file, text));
  const root = overlayAll(sources);
  const outcome = validate(plainOf(root), { complete: !sources.some(({ brokenFrom }) => brokenFrom) });
  const mistakes = sources.flatMap((source) => source.mistakes);
  if ('config' in outcome && mistakes.length === 0) return outcome.config;
  const places = placed(root, [...mistakes, ...consequential(outcome, mistakes)]).filter(
    ({ mistake, at }) => mistakes.includes(mistake) || !isGuess(at, sources),
  );
  const order = texts.map(({ file }) => file);
  places.sort(
    (a, b) =>
      order.indexOf(a.at.file) - order.indexOf(b.at.file) ||
      a.at.line - b.at.line ||
      a.at.column - b.at.column,
  );
  throw new ConfigError(
    places.map(({ mistake: { path, message }, at: { file, line, column } }) => {
      return { file, line, column, path: formatPath(path), message };
    }),
  );
}

/** Sections whose keys are names: a name without a value is a name that is not there. */
const NAMED = ['issuers', 'certificates', 'pools'];

function overlayAll(sources: readonly Source[]): MapNode {
  const empty: MapNode = { kind: 'map', at: { file: '', line: 1, column: 1 }, entries: new Map() };
  const root = sources.map((source) => source.root).reduce(overlay, sources[0]?.root ?? empty);
  const entries = Array.from(root.entries, ([key, entry]) => {
    const { keyAt, node } = entry;
    return [
      key,
      NAMED.includes(key) && node.kind === 'map' ? { keyAt, node: withoutEmpty(node) } : entry,
    ] as const;
  });
  return { ...root, entries: new Map(entries) };
}

/** What the schema says of a value that could not even be read is noise. */
function consequential(outcome: Validation, read: readonly Mistake[]): readonly Mistake[] {
  if (!('mistakes' in outcome)) return [];
  const damaged = read.map(({ path }) => path).filter((path) => path.length > 0);
  return outcome.mistakes.filter(({ path }) => !damaged.some((start) => startsWith(path, start)));
}

function startsWith(path: ConfigPath, start: ConfigPath): boolean {
  return start.every((step, index) => path[index] === step);
}

function placed(root: MapNode, mistakes: readonly Mistake[]): { mistake: Mistake; at: Position }[] {
  return mistakes.map((mistake) => ({
    mistake,
    at: mistake.at ?? locate(root, mistake.path, { of: mistake.of ?? 'value' }),
  }));
}

/** Behind a syntax error the parser reads on as well as it can, so that what it finds may not be there. */
function isGuess(at: Position, sources: readonly Source[]): boolean {
  return sources.some(({ brokenFrom }) => brokenFrom?.file === at.file && at.line >= brokenFrom.line);
}

function unreadable(failures: readonly { file: string; cause: unknown }[]): KacmeError {
  const lines = failures.map(
    ({ file, cause }) =>
      `cannot read the configuration ${file}: ${cause instanceof Error ? cause.message : cause}`,
  );
  return new KacmeError('ERR_CONFIG_UNREADABLE', lines.join('\n'), {
    retry: 'never',
    remedy:
      'name an existing, readable file with --config, or write a first one with `kacme config init FILE`',
    cause: failures[0]?.cause,
  });
}
