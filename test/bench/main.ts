import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type Benchmark, type BenchmarkOptions, FIFTY_HOSTS, FLEET_HOSTS } from './benchmark.ts';
import { faulty } from './faulty.ts';
import { fleet } from './fleet.ts';
import { load } from './load.ts';
import { describeMachine, loadAverage } from './machine.ts';
import { many } from './many.ts';
import { order } from './order.ts';
import { plan } from './plan.ts';
import { judge, type ReportedMeasure, renderTable } from './report.ts';
import { delayed, fifty, rollout } from './rollout.ts';
import { startup } from './startup.ts';
import { twenty } from './twenty.ts';

const BENCHMARKS: readonly Benchmark[] = [
  order,
  twenty,
  rollout,
  fifty,
  delayed,
  faulty,
  fleet,
  many,
  load,
  startup,
  plan,
];

const USAGE = `npm run bench -- [--runs N] [--only NAME]... [--hosts N] [--json FILE] [--profiles DIRECTORY]

  --runs N      measure each N times (default 7)
  --only NAME   one of them alone; may be repeated:
${BENCHMARKS.map(({ name, about }) => `                  ${name.padEnd(8)} ${about}`).join('\n')}
  --hosts N     of fleet (default ${FLEET_HOSTS}), or of fifty, delayed and faulty (default ${FIFTY_HOSTS})
  --json FILE   write every sample there too
  --profiles DIRECTORY
                keep a CPU profile of each kacme serve there, which makes it a little slower

Exit status: 0 measured, whether the targets are met or not; 1 a run did not do its work; 2 wrong usage
`;

/** What was bundled for this run. */
type Built = Pick<BenchmarkOptions, 'command' | 'simulator' | 'delayer' | 'signal'>;

interface Settings {
  readonly runs: number;
  readonly hosts: number | undefined;
  readonly benchmarks: readonly Benchmark[];
  readonly json: string | undefined;
  readonly profiles: string | undefined;
}

/** Resolves to the exit status. */
export async function main(argv: readonly string[], built: Built): Promise<number> {
  const settings = readSettings(argv);
  if (typeof settings === 'string') {
    process.stderr.write(`${settings === '' ? '' : `${settings}\n\n`}${USAGE}`);
    return settings === '' ? 0 : 2;
  }
  try {
    await measure(settings, built);
    return 0;
  } catch (error) {
    if (built.signal.aborted) return 130;
    process.stderr.write(
      `\nbench failed: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`,
    );
    return 1;
  }
}

async function measure({ runs, hosts, benchmarks, json, profiles }: Settings, built: Built): Promise<void> {
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const at = new Date().toISOString();
  const machine = await describeMachine();
  say(`kacme bench, ${at}\n${machine}\n`);
  const measures: ReportedMeasure[] = [];
  const loads: string[] = [];
  for (const benchmark of benchmarks) {
    built.signal.throwIfAborted();
    const load = await loadAverage();
    loads.push(load);
    say(`${benchmark.name}: ${benchmark.about}; load ${load}`);
    const options = { ...built, runs, hosts, profiles, say };
    measures.push(...(await benchmark.run(options)).map(judge));
  }
  say(`\n${renderTable(measures)}`);
  const missed = measures.filter(({ met }) => met === false);
  say(`targets missed: ${missed.length === 0 ? 'none' : missed.length}`);
  if (json === undefined) return;
  await writeFile(json, `${JSON.stringify({ at, machine, loads, measures }, null, 2)}\n`);
  say(`written to ${json}`);
}

/** A message says what is wrong; an empty one that help is asked for. */
function readSettings(argv: readonly string[]): Settings | string {
  let values: {
    runs?: string;
    only?: string[];
    hosts?: string;
    json?: string;
    profiles?: string;
    help?: boolean;
  };
  try {
    ({ values } = parseArgs({
      args: [...argv],
      options: {
        runs: { type: 'string' },
        only: { type: 'string', multiple: true },
        hosts: { type: 'string' },
        json: { type: 'string' },
        profiles: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (values.help === true) return '';
  const runs = Number(values.runs ?? '7');
  if (!Number.isInteger(runs) || runs < 1) return `--runs ${values.runs}: expected a number of 1 or more`;
  const only = values.only ?? BENCHMARKS.map(({ name }) => name);
  const unknown = only.find((name) => !BENCHMARKS.some((benchmark) => benchmark.name === name));
  if (unknown !== undefined) {
    return `--only ${unknown}: expected one of ${BENCHMARKS.map(({ name }) => name).join(', ')}`;
  }
  const hosts = values.hosts === undefined ? undefined : Number(values.hosts);
  if (hosts !== undefined && (!Number.isInteger(hosts) || hosts < 1 || hosts > FLEET_HOSTS)) {
    return `--hosts ${values.hosts}: expected a number from 1 to ${FLEET_HOSTS}`;
  }
  const benchmarks = BENCHMARKS.filter(({ name }) => only.includes(name));
  return { runs, hosts, benchmarks, json: values.json, profiles: values.profiles };
}
