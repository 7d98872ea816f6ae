import { type Alias, type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { ConfigPath } from './issue.ts';
import type { ConfigNode, MapEntry, MapNode, Mistake, Position } from './tree.ts';

export interface Source {
  readonly root: MapNode;
  readonly mistakes: readonly Mistake[];
  /** From this line on the parser had to guess, so that nothing it says can be relied on. */
  readonly brokenFrom: Position | undefined;
}

/** Reads one YAML 1.2 file. Never throws: what is wrong becomes a mistake with its place. */
export function parseSource(file: string, text: string): Source {
  const lines = new LineCounter();
  // The pretty form of a message quotes the line, which may hold a secret; keys are counted below, with a path.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false });
  const reader = new SourceReader(file, lines, document);
  const root = reader.root();
  const syntax = [...document.errors, ...document.warnings].map(({ code, message, pos }) => ({
    path: [],
    message: explain(code, message),
    at: reader.position(pos[0]),
  }));
  const guessed = [...(root === undefined ? [0] : []), ...document.errors.map(({ pos }) => pos[0])];
  return {
    root: root ?? { kind: 'map', at: reader.position(0), entries: new Map() },
    mistakes: [...syntax, ...reader.mistakes],
    brokenFrom: guessed.length > 0 ? reader.position(Math.min(...guessed)) : undefined,
  };
}

class SourceReader {
  readonly mistakes: Mistake[] = [];
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #document: Document.Parsed;
  /** Nodes that are being read: an alias inside its own anchor would never end. */
  readonly #reading = new Set<unknown>();

  constructor(file: string, lines: LineCounter, document: Document.Parsed) {
    this.#file = file;
    this.#lines = lines;
    this.#document = document;
  }

  position(offset: number): Position {
    const { line, col } = this.#lines.linePos(offset);
    // An empty file has no line yet.
    return { file: this.#file, line: Math.max(line, 1), column: Math.max(col, 1) };
  }

  /** Undefined when the file holds something else than a map. */
  root(): MapNode | undefined {
    const start = this.position(0);
    const contents: unknown = this.#document.contents;
    if (contents === null || (isScalar(contents) && contents.value === null)) {
      return { kind: 'map', at: start, entries: new Map() };
    }
    const node = this.#read(contents, [], start);
    if (node.kind === 'map') return { ...node, at: start };
    this.#report([], node.at, 'expected a map of keys such as issuers, certificates, pools');
    return undefined;
  }

  #read(node: unknown, path: ConfigPath, around: Position): ConfigNode {
    if (isAlias(node)) return this.#follow(node, path, around);
    const at = this.#positionOf(node) ?? around;
    if (isScalar(node)) return { kind: 'scalar', at, value: node.value };
    this.#reading.add(node);
    const read = this.#readCollection(node, path, at);
    this.#reading.delete(node);
    return read;
  }

  #readCollection(node: unknown, path: ConfigPath, at: Position): ConfigNode {
    if (isSeq(node)) {
      const items = node.items.map((item, index) => this.#read(item, [...path, index], at));
      return { kind: 'list', at, items };
    }
    // A pair such as `{ key }` has no value at all.
    if (!isMap(node)) return { kind: 'scalar', at, value: null };
    const entries = new Map<string, MapEntry>();
    for (const { key, value } of node.items) {
      const keyAt = this.#positionOf(key) ?? at;
      const name = keyText(key);
      const earlier = name === undefined ? undefined : entries.get(name);
      if (name === undefined) this.#report(path, keyAt, QUOTE);
      else if (earlier)
        this.#report([...path, name], keyAt, `given twice, first in line ${earlier.keyAt.line}`);
      else entries.set(name, { keyAt, node: this.#read(value, [...path, name], keyAt) });
    }
    return { kind: 'map', at, entries };
  }

  #follow(alias: Alias, path: ConfigPath, around: Position): ConfigNode {
    const target = alias.resolve(this.#document);
    if (!this.#reading.has(target)) return this.#read(target, path, around);
    const at = this.position(startOf(alias) ?? 0);
    this.#report(path, at, `the alias *${alias.source} stands inside what it stands for`);
    return { kind: 'scalar', at, value: null };
  }

  #positionOf(node: unknown): Position | undefined {
    const start = startOf(node);
    return start === undefined ? undefined : this.position(start);
  }

  #report(path: ConfigPath, at: Position, message: string): void {
    this.mistakes.push({ path, at, message });
  }
}

const QUOTE = 'YAML reads brackets and braces here as a list or a map: put the text in quotes';

function startOf(node: unknown): number | undefined {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined;
}

function keyText(key: unknown): string | undefined {
  if (!isScalar(key)) return undefined;
  return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value));
}

function explain(code: string, message: string): string {
  if (code === 'MULTIPLE_DOCS')
    return 'a second YAML document begins here: use one file for each, with --config';
  if (code === 'TAB_AS_INDENT') return 'a tab indents this line: YAML indents with spaces';
  return MAY_LACK_QUOTES.includes(code)
    ? `${message} (text with brackets, braces or ": " needs quotes)`
    : message;
}

const MAY_LACK_QUOTES = ['UNEXPECTED_TOKEN', 'MISSING_CHAR', 'BLOCK_AS_IMPLICIT_KEY'];
