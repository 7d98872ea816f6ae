import { join, relative, sep } from 'node:path';
import { KacmeError } from '../domain/errors.ts';

/** Longest name most file systems take is 255 bytes; the rest is for the suffix. */
const MAX_SEGMENT = 200;
const SEGMENT = /^[a-z0-9._-]+$/;
/** Not in the alphabet of keys: the file of `a` and the directory of `a/b` never collide. */
const SUFFIX = '+json';

function isSegment(segment: string): boolean {
  return SEGMENT.test(segment) && segment !== '.' && segment !== '..' && segment.length <= MAX_SEGMENT;
}

/** Throws `ERR_INTERNAL` unless `key` is made of segments of `[a-z0-9._-]`: no other key ever reaches the disk. */
export function assertStoreKey(key: string): void {
  if (key.split('/').every(isSegment)) return;
  throw new KacmeError('ERR_INTERNAL', `"${key}" is not a key of the store`, { retry: 'never' });
}

/** The file that holds `key`. */
export function pathOfKey(dataDirectory: string, key: string): string {
  return `${join(dataDirectory, key)}${SUFFIX}`;
}

/** The key a file holds; undefined for a file that is not the store's. */
export function keyOfPath(dataDirectory: string, path: string): string | undefined {
  if (!path.endsWith(SUFFIX)) return undefined;
  const key = relative(dataDirectory, path.slice(0, -SUFFIX.length)).split(sep).join('/');
  return key.split('/').every(isSegment) ? key : undefined;
}

/** A file name for `key` in a flat directory. */
export function flatName(key: string): string {
  return key.replaceAll('/', '+');
}
