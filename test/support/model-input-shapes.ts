import type { LayerCache, ModelInput, SinkInput } from '../../worker/model/runner.ts';

/**
 * Throws at what a real model would refuse, or read beyond the end of.
 *
 * @param width of the keys of a token in one layer, all heads together
 */
export function checkShapes(input: ModelInput, width: number): void {
  const { numRows, numNewTokens, frozenCapacity, tailCapacity, sinks } = input;
  const numColumns = (sinks?.capacity ?? 0) + frozenCapacity + tailCapacity;
  const expected: readonly (readonly [string, ArrayLike<number>, number])[] = [
    ['tokenIds', input.tokenIds, numRows * numNewTokens],
    ['positions', input.positions, numRows * numNewTokens],
    ['writeIndices', input.writeIndices, numRows],
    ['mask', input.mask, numRows * numNewTokens * numColumns],
    ...input.layers.flatMap((layer) => layerShapes(layer, input, width)),
    ...(sinks === null ? [] : sinkShapes(sinks, input, width)),
  ];
  for (const [name, numbers, length] of expected) {
    if (numbers.length !== length) throw new Error(`${name} has ${numbers.length}, not ${length}`);
  }
  for (const index of input.writeIndices) {
    if (index + numNewTokens > tailCapacity) throw new Error('new tokens beyond the tail');
  }
  if (input.logitIndices.length === 0) throw new Error('no logits wanted');
}

function sinkShapes(
  { places, layers, capacity }: SinkInput,
  { numRows, numNewTokens }: ModelInput,
  width: number,
) {
  const length = numRows * width * capacity;
  return [
    ['places', places, numRows * numNewTokens] as const,
    ...layers.flatMap(
      ({ sinkKeys, sinkValues }) =>
        [
          ['sinkKeys', sinkKeys, length],
          ['sinkValues', sinkValues, length],
        ] as const,
    ),
  ];
}

function layerShapes(
  layer: LayerCache,
  { numRows, frozenCapacity, tailCapacity }: ModelInput,
  width: number,
) {
  return [
    ['frozenKeys', layer.frozenKeys, numRows * width * frozenCapacity],
    ['frozenValues', layer.frozenValues, numRows * width * frozenCapacity],
    ['tailKeys', layer.tailKeys, numRows * width * tailCapacity],
    ['tailValues', layer.tailValues, numRows * width * tailCapacity],
  ] as const;
}
