/** Any map of the configuration; the keys that the rules read are named. */
export interface Plain {
  readonly [key: string]: unknown;
  readonly issuers?: unknown;
  readonly stagingFirst?: unknown;
  readonly directory?: unknown;
  readonly profile?: unknown;
  readonly certificates?: unknown;
  readonly identifiers?: unknown;
  readonly key?: unknown;
  readonly pools?: unknown;
  readonly hosts?: unknown;
  readonly host?: unknown;
  readonly dns?: unknown;
  readonly srv?: unknown;
  readonly refresh?: unknown;
  readonly name?: unknown;
  readonly local?: unknown;
  readonly reload?: unknown;
  readonly command?: unknown;
  readonly ssh?: unknown;
  readonly port?: unknown;
  readonly jump?: unknown;
  readonly verify?: unknown;
  readonly through?: unknown;
  readonly haproxy?: unknown;
  readonly socket?: unknown;
  readonly masterSocket?: unknown;
  readonly deployments?: unknown;
  readonly certificate?: unknown;
  readonly pool?: unknown;
  readonly path?: unknown;
  readonly file?: unknown;
  readonly copies?: unknown;
  readonly crtList?: unknown;
  readonly crtListFile?: unknown;
  readonly challenge?: unknown;
  readonly resolvers?: unknown;
  readonly selfCheck?: unknown;
  readonly via?: unknown;
  readonly operations?: unknown;
  readonly listen?: unknown;
  readonly store?: unknown;
  readonly control?: unknown;
}

export function mapOf(value: unknown): Plain {
  return isMap(value) ? value : {};
}

export function isMap(value: unknown): value is Plain {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
