import type { LazyTensor } from './tensor.ts';

/** A matrix in fewer bits: whole numbers, and what each group of them is multiplied by. */
export interface QuantizedMatrix<Numbers extends Int8Array | Uint8Array> {
  readonly numbers: LazyTensor<Numbers>;
  readonly scales: LazyTensor;
}

/** Numbers that share a scale in a format of blocks. */
export const BLOCK_LENGTH = 32;

/**
 * Int8 with a scale per row.
 *
 * @param tensor [numRows, numColumns]
 * @returns numbers [numRows, numColumns], or [numColumns, numRows] if transposed; scales [numRows]
 */
export function quantizeRows(
  { dims, load }: LazyTensor,
  { isTransposed }: { readonly isTransposed: boolean },
): QuantizedMatrix<Int8Array> {
  const [numRows = 0, numColumns = 0] = dims;
  const stride = isTransposed ? numRows : 1;
  return lazily(
    { numbers: isTransposed ? [numColumns, numRows] : [...dims], scales: [numRows] },
    () => {
      const source = load();
      const numbers = new Int8Array(source.length);
      const scales = new Float32Array(numRows);
      for (let row = 0; row < numRows; row += 1) {
        const start = row * numColumns;
        const scale = Math.fround(maxMagnitude(source, start, start + numColumns) / 127);
        scales[row] = scale;
        if (scale === 0) continue;
        let at = isTransposed ? row : start;
        for (let i = start; i < start + numColumns; i += 1) {
          numbers[at] = clamp(Math.round(source[i]! / scale), -127, 127);
          at += stride;
        }
      }
      return { numbers, scales };
    },
  );
}

/**
 * Blocks of 32 numbers of a row, each with a scale, as `MatMulNBits` reads them: unsigned, with the
 * zero in the middle. What a row lacks to whole blocks is filled with zeros.
 *
 * @param tensor [numRows, numColumns]
 * @returns numbers [numRows, numBlocks, 32 * bits / 8], scales [numRows, numBlocks]
 */
export function quantizeBlocks(
  { dims, load }: LazyTensor,
  bits: 4 | 8,
): QuantizedMatrix<Uint8Array> {
  const [numRows = 0, numColumns = 0] = dims;
  const numBlocks = Math.ceil(numColumns / BLOCK_LENGTH);
  const blockBytes = (BLOCK_LENGTH * bits) / 8;
  const sizes = { numbers: [numRows, numBlocks, blockBytes], scales: [numRows, numBlocks] };
  return lazily(sizes, () => {
    const source = load();
    const numbers = new Uint8Array(numRows * numBlocks * blockBytes);
    const scales = new Float32Array(numRows * numBlocks);
    const block = new Float32Array(BLOCK_LENGTH);
    for (let i = 0; i < scales.length; i += 1) {
      const start = Math.floor(i / numBlocks) * numColumns + (i % numBlocks) * BLOCK_LENGTH;
      const end = (Math.floor(i / numBlocks) + 1) * numColumns;
      block.fill(0).set(source.subarray(start, Math.min(start + BLOCK_LENGTH, end)));
      const bytes = numbers.subarray(i * blockBytes, (i + 1) * blockBytes);
      scales[i] = bits === 8 ? writeEightBits(block, bytes) : writeFourBits(block, bytes);
    }
    return { numbers, scales };
  });
}

/** @returns the scale */
function writeEightBits(block: Float32Array, bytes: Uint8Array): number {
  const scale = Math.fround(maxMagnitude(block, 0, block.length) / 127);
  for (let i = 0; i < block.length; i += 1) bytes[i] = 128 + toNumber(block[i]!, scale, -127, 127);
  return scale;
}

/**
 * What the number of greatest magnitude is divided by for a first scale. Numbers go from -8 to 7,
 * so that number takes the side with one more; cutting it off a little can be worth it for the
 * others.
 */
const FOUR_BIT_DIVISORS = [-8, -8.5, -7.75, -7.5, -7.25, -7, -6.75, -6.5, -6] as const;

/** Two numbers a byte, the first in the low half. @returns the scale of least squared error */
function writeFourBits(block: Float32Array, bytes: Uint8Array): number {
  let extreme = 0;
  for (const value of block) if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  let best = { divisor: FOUR_BIT_DIVISORS[0] as number, fit: -1, scale: 0 };
  for (const divisor of FOUR_BIT_DIVISORS) {
    let product = 0;
    let square = 0;
    for (const value of block) {
      const number = toNumber(value, extreme / divisor, -8, 7);
      product += value * number;
      square += number * number;
    }
    // With the best scale for these numbers the squared error is the block's square less this.
    const fit = square === 0 ? 0 : (product * product) / square;
    if (fit > best.fit) best = { divisor, fit, scale: square === 0 ? 0 : product / square };
  }
  for (let i = 0; i < bytes.length; i += 1) {
    const low = toNumber(block[2 * i]!, extreme / best.divisor, -8, 7) + 8;
    const high = toNumber(block[2 * i + 1]!, extreme / best.divisor, -8, 7) + 8;
    bytes[i] = low | (high << 4);
  }
  return best.scale;
}

function toNumber(value: number, scale: number, min: number, max: number): number {
  return scale === 0 ? 0 : clamp(Math.round(value / scale), min, max);
}

function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(max, value));
}

function maxMagnitude(data: Float32Array, start: number, end: number): number {
  let max = 0;
  for (let i = start; i < end; i += 1) max = Math.max(max, Math.abs(data[i]!));
  return max;
}

/** Quantizes when one of the two is loaded first; keeps only the scales, which are small. */
function lazily<Numbers extends Int8Array | Uint8Array>(
  dims: { readonly numbers: readonly number[]; readonly scales: readonly number[] },
  quantize: () => { numbers: Numbers; scales: Float32Array },
): QuantizedMatrix<Numbers> {
  let scales: Float32Array | null = null;
  const quantizeNow = () => {
    const quantized = quantize();
    scales = quantized.scales;
    return quantized;
  };
  return {
    numbers: { dims: dims.numbers, load: () => quantizeNow().numbers },
    scales: { dims: dims.scales, load: () => scales ?? quantizeNow().scales },
  };
}
