import { Command } from 'commander';
import { loadConfig } from '../config/load.ts';
import { KacmeError } from '../domain/errors.ts';
import type { KacmeConfig } from '../domain/model.ts';
import type { CliContext } from './context.ts';
import { globalOptions } from './global-options.ts';
import { haproxySnippet, type SnippetRequest } from './render/haproxy-snippet.ts';

interface SnippetOptions {
  readonly pool?: string;
  readonly host?: string;
}

type SnippetContext = Pick<CliContext, 'signal' | 'stdout' | 'discoverHosts'>;

export function haproxyCommand(context: SnippetContext): Command {
  return new Command('haproxy')
    .description(
      'Configuration of HAProxy that fits that of kacme; works offline, but for hosts that are discovered',
    )
    .addCommand(snippetCommand(context));
}

function snippetCommand({ signal, stdout, discoverHosts }: SnippetContext): Command {
  return new Command('snippet')
    .description("Print what a host's haproxy.cfg needs for kacme: sockets, challenges, crt, verification")
    .option('--pool <pool>', 'a host of this pool (default: the only pool)')
    .option('--host <host>', 'this host, named as in the configuration (default: the first of the pool)')
    .addHelpText(
      'after',
      `
Examples:
  kacme haproxy snippet
  kacme haproxy snippet --pool loadbalancers --host 10.0.0.12

Exit status: 0 done, 2 wrong usage or configuration`,
    )
    .action(async (options: SnippetOptions, command: Command) => {
      const config = await loadConfig(globalOptions(command).configPaths, { signal });
      const known = await discoverHosts(config, { pool: options.pool, signal });
      stdout.write(haproxySnippet(placeOf(known, options)));
    });
}

function placeOf(config: KacmeConfig, { pool: poolName, host: hostName }: SnippetOptions): SnippetRequest {
  const deployed = new Set(config.deployments.map(({ pool }) => pool));
  const pools = Object.values(config.pools).filter(({ name }) => deployed.has(name));
  const fitting = pools.filter(
    ({ name, hosts }) =>
      (poolName === undefined || name === poolName) &&
      (hostName === undefined || hosts.some((host) => host.name === hostName)),
  );
  const [pool, ...others] = fitting;
  const host = pool?.hosts.find(({ name }) => hostName === undefined || name === hostName);
  if (pool === undefined || host === undefined || others.length > 0) {
    const asked = [poolName && `pool ${poolName}`, hostName && `host ${hostName}`].filter(Boolean).join(', ');
    const known = pools.map(({ name, hosts }) => `${name} (${hosts.map((each) => each.name).join(', ')})`);
    throw new KacmeError(
      'ERR_UNKNOWN_NAME',
      others.length > 0
        ? `cannot tell which pool is meant${asked && ` by ${asked}`}: there are ${fitting.map(({ name }) => name).join(', ')}`
        : `nothing is deployed to ${asked || 'any pool'}`,
      { retry: 'never', remedy: `give --pool and --host; there are ${known.join('; ') || 'none'}` },
    );
  }
  const deployments = config.deployments.filter((deployment) => deployment.pool === pool.name);
  return { pool, host, deployments, challenge: config.challenge };
}
