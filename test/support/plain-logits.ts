import { openModel } from '../../worker/model/open-model.ts';
import { cutIntoChunks, HostCache } from './host-cache.ts';

/**
 * How far the logits of a model directory are from the plain ones, at the worst of all tokens; read
 * in chunks of several lengths.
 *
 * @param expected [numTokens] of [vocabSize]
 */
export async function worstOfModel(
  { modelDir, cacheDir }: { readonly modelDir: string; readonly cacheDir: string },
  tokenIds: readonly number[],
  expected: readonly Float64Array[],
): Promise<number> {
  const settings = { executionProvider: 'cpu', weightFormat: 'fp32', numThreads: 1 } as const;
  const { runner } = await openModel({ modelDir, cacheDir, ...settings });
  const cache = new HostCache(runner.shape, { numRows: 1, frozenCapacity: 128 });
  let worst = 0;
  let position = 0;
  for (const chunk of cutIntoChunks(tokenIds, [1, 40, 7])) {
    for (const logits of (await cache.read(runner, [chunk]))[0]!) {
      for (const [tokenId, logit] of logits.entries()) {
        worst = Math.max(worst, Math.abs(logit - expected[position]![tokenId]!));
      }
      position += 1;
    }
  }
  await runner.close();
  return position === expected.length ? worst : Infinity;
}
