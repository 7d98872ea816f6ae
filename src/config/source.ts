import { type Alias, type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import type { ConfigPath } from './issue.ts';
import type { ConfigNode, MapEntry, MapNode, Mistake, Position } from './tree.ts';

export interface Source {
  readonly root: MapNode;
  readonly mistakes: readonly Mistake[];
  /** From here on the parser had to guess, so that nothing it says can be relied on. */
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
  const first = document.errors[0];
  return {
    root,
    mistakes: [...syntax, ...reader.mistakes],
    brokenFrom: first && reader.position(Math.min(...document.errors.map(({ pos }) => pos[0]))),
  };
}

class SourceReader {
  readonly mistakes: Mistake[] = [];
  readonly #file: string;
  readonly #lines: LineCounter;
  readonly #document: Document.Parsed;
  /** Aliases that are being followed: one of them inside its own anchor would never end. */
  readonly #following = new Set<string>();

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

  root(): MapNode {
    const start = this.position(0);
    const empty: MapNode = { kind: 'map', at: start, entries: new Map() };
    const contents: unknown = this.#document.contents;
    if (contents === null || (isScalar(contents) && contents.value === null)) return empty;
    const node = this.#read(contents, [], start);
    if (node.kind === 'map') return { ...node, at: start };
    this.#report([], node.at, 'expected a map of keys such as issuers, certificates, pools');
    return empty;
  }

  #read(node: unknown, path: ConfigPath, around: Position): ConfigNode {
    if (isAlias(node)) return this.#follow(node, path, around);
    const at = startOf(node) === undefined ? around : this.position(startOf(node) ?? 0);
    if (isSeq(node)) {
      const items = node.items.map((item, index) => this.#read(item, [...path, index], at));
      return { kind: 'list', at, items };
    }
    if (isScalar(node)) return { kind: 'scalar', at, value: node.value };
    if (!isMap(node)) return { kind: 'scalar', at, value: null };
    const entries = new Map<string, MapEntry>();
    for (const { key, value } of node.items) {
      const keyAt = startOf(key) === undefined ? at : this.position(startOf(key) ?? 0);
      const name = keyText(key);
      if (name === undefined) {
        this.#report(
          path,
          keyAt,
          'YAML reads brackets and braces here as a list or a map: put the text in quotes',
        );
        continue;
      }
      const earlier = entries.get(name);
      if (earlier) this.#report([...path, name], keyAt, `given twice, first in line ${earlier.keyAt.line}`);
      else entries.set(name, { keyAt, node: this.#read(value, [...path, name], keyAt) });
    }
    return { kind: 'map', at, entries };
  }

  #follow(alias: Alias, path: ConfigPath, around: Position): ConfigNode {
    const at = this.position(startOf(alias) ?? 0);
    if (this.#following.has(alias.source)) {
      this.#report(path, at, `the alias *${alias.source} stands inside what it stands for`);
      return { kind: 'scalar', at, value: null };
    }
    this.#following.add(alias.source);
    const node = this.#read(alias.resolve(this.#document), path, around);
    this.#following.delete(alias.source);
    return node;
  }

  #report(path: ConfigPath, at: Position, message: string): void {
    this.mistakes.push({ path, at, message });
  }
}

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
  if (code === 'UNEXPECTED_TOKEN') return `${message} (text with brackets, braces or ": " needs quotes)`;
  return message;
}
