import * as z from 'zod';
import { KacmeError } from '../domain/errors.ts';
import type { CommandOptions, KacmeService } from '../ports/service.ts';
import {
  AccountChangeRequest,
  AccountsRequest,
  AdoptRequest,
  BootstrapRequest,
  CalendarRequest,
  CheckRequest,
  CONTROL_PATHS,
  DistributeRequest,
  ReloadConfigRequest,
  ReloadRequest,
  RenewRequest,
  RevokeCommandRequest,
  RollbackRequest,
} from './control-protocol.ts';

export interface ControlRoute {
  readonly method: 'GET' | 'POST';
  /** Checks the body first and throws `ERR_CONTROL_REQUEST` before anything is done. */
  run(body: unknown, options: CommandOptions): Promise<unknown>;
}

/** What can be asked, by path. */
export function controlRoutes(service: KacmeService): ReadonlyMap<string, ControlRoute> {
  return new Map<string, ControlRoute>([
    [CONTROL_PATHS.status, { method: 'GET', run: (_body, { signal }) => service.status({ signal }) }],
    [CONTROL_PATHS.check, post(CheckRequest, (_request, options) => service.check(options))],
    [
      CONTROL_PATHS.calendar,
      post(CalendarRequest, (request, { signal }) => service.calendar(request, { signal })),
    ],
    [
      CONTROL_PATHS.accounts,
      post(AccountsRequest, (request, { signal }) => service.accounts(request, { signal })),
    ],
    [
      CONTROL_PATHS.account,
      post(AccountChangeRequest, (request, options) => service.changeAccount(request, options)),
    ],
    [CONTROL_PATHS.bootstrap, post(BootstrapRequest, (_request, options) => service.bootstrap(options))],
    [CONTROL_PATHS.renew, post(RenewRequest, (request, options) => service.renew(request, options))],
    [
      CONTROL_PATHS.reload,
      post(ReloadRequest, ({ pool, host }, options) => service.reload({ pool, host }, options)),
    ],
    [
      CONTROL_PATHS.rollback,
      post(RollbackRequest, ({ name, to }, options) => service.rollback({ name, to }, options)),
    ],
    [CONTROL_PATHS.adopt, post(AdoptRequest, (request, options) => service.adopt(request, options))],
    [
      CONTROL_PATHS.revoke,
      post(RevokeCommandRequest, (request, options) => service.revoke(request, options)),
    ],
    [
      CONTROL_PATHS.distribute,
      post(DistributeRequest, ({ host }, options) => service.distribute({ host }, options)),
    ],
    [
      CONTROL_PATHS.reloadConfig,
      post(ReloadConfigRequest, async (_request, { signal }) => {
        await service.reloadConfig({ signal });
        return {};
      }),
    ],
  ]);
}

function post<T>(
  schema: z.ZodType<T>,
  run: (request: T, options: CommandOptions) => Promise<unknown>,
): ControlRoute {
  return {
    method: 'POST',
    run: async (body, options) => {
      const parsed = schema.safeParse(body);
      if (!parsed.success) throw badRequest(z.prettifyError(parsed.error).replaceAll(/\s+/g, ' '));
      return await run(parsed.data, options);
    },
  };
}

export function badRequest(reason: string): KacmeError {
  return new KacmeError('ERR_CONTROL_REQUEST', `control request refused: ${reason}`, {
    retry: 'never',
    remedy: 'use the kacme command of the same version as the running service',
  });
}
