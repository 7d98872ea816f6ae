import type { ConfigPath } from './issue.ts';

export interface Position {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** A value of the configuration that knows where it was written. */
export type ConfigNode = MapNode | ListNode | ScalarNode;

export interface MapNode {
  readonly kind: 'map';
  readonly at: Position;
  readonly entries: ReadonlyMap<string, MapEntry>;
}

export interface MapEntry {
  readonly keyAt: Position;
  readonly node: ConfigNode;
}

export interface ListNode {
  readonly kind: 'list';
  readonly at: Position;
  readonly items: readonly ConfigNode[];
}

export interface ScalarNode {
  readonly kind: 'scalar';
  readonly at: Position;
  /** `null` stands for "not given", and in an overlay for "no longer given". */
  readonly value: unknown;
}

/** Something wrong in the tree; `at` is given where the path alone does not lead to the place. */
export interface Mistake {
  readonly path: ConfigPath;
  readonly message: string;
  readonly at?: Position;
  /** What the path leads to: the value, unless it says `key`. */
  readonly of?: 'key';
}

/** Maps merge deeply; lists, scalars and `null` replace what was there. */
export function overlay(base: MapNode, top: MapNode): MapNode {
  const entries = new Map(base.entries);
  for (const [key, entry] of top.entries) {
    const below = entries.get(key)?.node;
    const merged =
      below?.kind === 'map' && entry.node.kind === 'map'
        ? { keyAt: entry.keyAt, node: overlay(below, entry.node) }
        : entry;
    entries.set(key, merged);
  }
  return { kind: 'map', at: base.at, entries };
}

/** The bare values. A key without a value stays, as undefined, so that an unknown one is still seen. */
export function plainOf(node: ConfigNode): unknown {
  if (node.kind === 'list') return node.items.map(plainOf);
  if (node.kind === 'scalar') return node.value;
  return Object.fromEntries(
    Array.from(node.entries, ([key, entry]) => [key, plainOf(entry.node) ?? undefined]),
  );
}

/** Drops the keys without a value: right for the maps whose keys an operator chooses. */
export function withoutEmpty(node: MapNode): MapNode {
  const filled = Array.from(node.entries).filter(([, { node }]) => !isEmpty(node));
  return { ...node, entries: new Map(filled) };
}

/**
 * Where to look for the value at `path` (its key with `of: 'key'`); of what is not there, where the nearest
 * thing around it is.
 */
export function locate(root: ConfigNode, path: ConfigPath, { of }: { of: 'value' | 'key' }): Position {
  let node = root;
  let nearest = root.at;
  for (const [depth, step] of path.entries()) {
    const entry = childOf(node, step);
    if (entry === undefined) return nearest;
    node = entry.node;
    nearest = entry.keyAt;
    if (depth === path.length - 1 && of === 'value' && !isEmpty(node)) return node.at;
  }
  return nearest;
}

function childOf(node: ConfigNode, step: string | number): MapEntry | undefined {
  if (node.kind === 'map') return node.entries.get(String(step));
  if (node.kind === 'scalar' || typeof step === 'string') return undefined;
  const item = node.items[step];
  return item && { keyAt: item.at, node: item };
}

function isEmpty(node: ConfigNode): boolean {
  return node.kind === 'scalar' && node.value === null;
}
