import { WEIGHT_FORMATS, type WeightFormat } from '../../../worker/model/builder.ts';
import { openModel } from '../../../worker/model/open-model.ts';
import type { ModelRunner } from '../../../worker/model/runner.ts';
import type { Table } from '../benchmark.ts';
import { median } from '../statistics.ts';
import { callTimes } from './call-times.ts';

/** What decoding one row takes without speculation, by weight format. */
export interface PlainSpeed {
  readonly msByFormat: ReadonlyMap<WeightFormat, number>;
  readonly fastest: WeightFormat;
}

export async function measurePlainSpeed(
  options: { readonly modelDir: string; readonly cacheDir: string; readonly numThreads: number },
  numRounds: number,
): Promise<PlainSpeed> {
  const runners: ModelRunner[] = [];
  for (const weightFormat of WEIGHT_FORMATS) {
    const settings = { executionProvider: 'cpu', hasSpinningThreads: true, weightFormat } as const;
    runners.push((await openModel({ ...options, ...settings })).runner);
  }
  const calls = runners.map((runner) => ({ runner, numRows: 1, numNewTokens: 1 }));
  const medians = (await callTimes(calls, numRounds)).map(median);
  for (const runner of runners) await runner.close();
  return {
    msByFormat: new Map(WEIGHT_FORMATS.map((format, i) => [format, medians[i]!])),
    fastest: WEIGHT_FORMATS[medians.indexOf(Math.min(...medians))]!,
  };
}

export function toSpeedTable(title: string, { msByFormat }: PlainSpeed): Table {
  return {
    title: `${title}: milliseconds of decoding one row without speculation`,
    columns: [...msByFormat.keys()],
    rows: [[...msByFormat.values()].map((ms) => ms.toFixed(2))],
  };
}
