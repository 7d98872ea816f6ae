/** What a scrape of the Prometheus text format gave. */
export interface Scrape {
  /** The sample of this name whose labels include these; throws when it is not exactly one. */
  value(name: string, labels?: Readonly<Record<string, string>>): number;
}

const SAMPLE = /^(?<name>[a-zA-Z_:][\w:]*)(?:\{(?<labels>.*)\})? (?<value>\S+)$/;

/** `operations`: `address:port` of the operations server. */
export async function scrape(operations: string): Promise<Scrape> {
  const response = await fetch(`http://${operations}/metrics`);
  const text = await response.text();
  if (!response.ok) throw new Error(`/metrics answered ${response.status}: ${text}`);
  const samples = text.split('\n').flatMap((line) => {
    const groups = SAMPLE.exec(line)?.groups;
    return groups === undefined ? [] : [groups];
  });
  return {
    value: (name, labels = {}) => {
      const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
      const found = samples.filter(
        (sample) => sample['name'] === name && wanted.every((label) => sample['labels']?.includes(label)),
      );
      const [only] = found;
      if (only === undefined || found.length > 1)
        throw new Error(`${found.length} samples of ${name} ${JSON.stringify(labels)} in:\n${text}`);
      return Number(only['value']);
    },
  };
}
