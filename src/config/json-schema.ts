import * as z from 'zod';
import { ConfigFile } from './schema.ts';

/** A JSON schema (draft 7, what editors read) of the configuration file, for completion and hints. */
export function configJsonSchema(): z.core.JSONSchema.BaseSchema {
  return {
    title: 'kacme configuration',
    ...z.toJSONSchema(ConfigFile, { io: 'input', target: 'draft-7' }),
  };
}
