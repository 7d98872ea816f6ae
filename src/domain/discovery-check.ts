import { type Finding, Findings } from './finding.ts';
import type { DiscoveryStatus } from './status.ts';

/** Whether the hosts of the pools can be learned, for `kacme check`. */
export function judgeDiscoveries(discoveries: readonly DiscoveryStatus[]): readonly Finding[] {
  return discoveries.flatMap(({ pool, source, hosts, leftOut, doubts, failure }) => {
    const findings = new Findings('hosts', `pool ${pool}`);
    if (failure === undefined) findings.ok('discovery', `${source}: ${hosts} hosts`);
    else findings.report('discovery', failure);
    for (const doubt of doubts)
      findings.warning('discovery', doubt, 'see that its name servers answer: until then no host is let go');
    for (const { name, reason } of leftOut)
      findings.warning('discovery', `${name} is left out: ${reason}`, 'let one source alone name it');
    return findings.list;
  });
}
