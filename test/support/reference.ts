import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { ModelRunner } from '../../worker/model/runner.ts';
import { cutIntoChunks, HostCache } from './host-cache.ts';

const ids = z.array(z.int());
const textSchema = z.object({
  ids,
  top10_ids: z.array(ids),
  top10_values: z.array(z.array(z.number())),
  greedy: ids,
});
const referenceSchema = z.object({ models: z.record(z.string(), z.array(textSchema)) });

export type ReferenceText = z.infer<typeof textSchema>;

/** What an independent implementation computed for the embedded models, by model name. */
export function readReference() {
  const path = join(import.meta.dirname, '../fixtures/reference.json');
  return referenceSchema.parse(JSON.parse(readFileSync(path, 'utf8'))).models;
}

/** Greatest difference from the listed logits of a text, over all its positions. */
export async function worstLogit(runner: ModelRunner, text: ReferenceText): Promise<number> {
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 256 });
  const rows: Float32Array[] = [];
  for (const chunk of cutIntoChunks(text.ids, [64])) {
    rows.push(...(await cache.read(runner, [chunk]))[0]!);
  }
  const differences = text.top10_values.flatMap((values, position) =>
    values.map((value, i) => Math.abs(rows[position]![text.top10_ids[position]![i]!]! - value)),
  );
  return Math.max(...differences);
}

/** The `numTokens` tokens that follow a text when the greatest logit always wins. */
export async function continueGreedily(
  runner: ModelRunner,
  tokenIds: readonly number[],
  numTokens: number,
): Promise<number[]> {
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 256 });
  const output: number[] = [];
  let logits: Float32Array = new Float32Array();
  for (const chunk of cutIntoChunks(tokenIds, [64])) {
    logits = (await cache.read(runner, [chunk]))[0]!.at(-1)!;
  }
  while (output.length < numTokens) {
    const tokenId = logits.indexOf(logits.reduce((max, logit) => Math.max(max, logit)));
    output.push(tokenId);
    logits = (await cache.read(runner, [[tokenId]]))[0]![0]!;
  }
  return output;
}
