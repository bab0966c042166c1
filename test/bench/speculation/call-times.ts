import { type LayerCache, MASKED, type ModelRunner } from '../../../worker/model/runner.ts';
import { median } from '../statistics.ts';

const FROZEN = 256;
const TAIL = 72;

/**
 * Milliseconds of a call with a past of about 256 positions: what verifying costs, by rows and new
 * tokens, without anything around it. Median of `numCalls`, after a warm-up.
 */
export async function callMs(
  runner: ModelRunner,
  shape: { readonly numRows: number; readonly numNewTokens: number },
  numCalls: number,
): Promise<number> {
  const { numRows, numNewTokens } = shape;
  const { numLayers, numKvHeads, headDim } = runner.shape;
  const columns = (count: number) =>
    Float32Array.from({ length: numRows * numKvHeads * count * headDim }, (_, i) => Math.sin(i));
  const layers: LayerCache[] = Array.from({ length: numLayers }, () => ({
    frozenKeys: columns(FROZEN),
    frozenValues: columns(FROZEN),
    tailKeys: columns(TAIL),
    tailValues: columns(TAIL),
  }));
  const numTokens = numRows * numNewTokens;
  const mask = new Float32Array(numTokens * (FROZEN + TAIL)).fill(MASKED);
  for (let i = 0; i < numTokens; i += 1)
    mask.fill(0, i * (FROZEN + TAIL), i * (FROZEN + TAIL) + FROZEN + 8);
  const input = {
    numRows,
    numNewTokens,
    frozenCapacity: FROZEN,
    tailCapacity: TAIL,
    tokenIds: Int32Array.from({ length: numTokens }, (_, i) => i % 100),
    positions: Int32Array.from({ length: numTokens }, (_, i) => FROZEN + (i % numNewTokens)),
    writeIndices: new Int32Array(numRows),
    mask,
    layers,
    sinks: null,
    logitIndices: Int32Array.from({ length: numTokens }, (_, i) => i),
  };
  const times: number[] = [];
  for (let call = -2; call < numCalls; call += 1) {
    const startMs = performance.now();
    await runner.run(input);
    if (call >= 0) times.push(performance.now() - startMs);
  }
  return median(times);
}
