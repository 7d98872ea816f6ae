import type { LoadedCertificate } from '../domain/observation.ts';
import type { EffectOptions } from '../ports/leadership.ts';
import type { UndoOptions } from './checkpoint.ts';

/** One way of bringing a bundle into HAProxy's memory, and back. The methods are called in this order. */
export interface MemoryChange {
  /** What HAProxy had under the path before; known after `look`. */
  readonly loadedBefore: LoadedCertificate | undefined;
  /** Of the worker that was looked at; undefined when it does not tell. */
  readonly pidBefore: number | undefined;
  /** After an undo: HAProxy has, or will have, the new bundle all the same. */
  readonly keepsNew: boolean;
  /** Throws, before anything is touched, when the change could not succeed. */
  look(options: EffectOptions): Promise<void>;
  /** Side by side with the upload of the files: nothing of it is seen by HAProxy's clients. */
  stage(options: EffectOptions): Promise<void>;
  /** When the files are in place: the moment for new connections. */
  commit(options: EffectOptions): Promise<void>;
  /** Resolves to what it did, in words. `heldPems` are the bundles found on the host before the change. */
  undo(options: UndoOptions, heldPems: readonly string[]): Promise<string | undefined>;
}
