import { InferenceSession, Tensor } from 'onnxruntime-node';
import { invariant } from '../../shared/assert.ts';
import { newKeysName, newValuesName, ones } from './attention.ts';
import type { ExecutionProvider } from './builder.ts';
import { hasSinks, type ModelConfig } from './config.ts';
import { ModelError } from './model-error.ts';
import { RopeTable } from './rope.ts';
import type { ModelInput, ModelOutput, ModelRunner, ModelShape } from './runner.ts';

export interface SessionSettings {
  readonly executionProvider: ExecutionProvider;
  readonly numThreads: number;
  /** Whether threads wait actively for a moment: a step of a small model is 1.6 times faster. */
  readonly hasSpinningThreads: boolean;
}

// Longer than the gaps between products, shorter than those between steps: an idle worker is idle.
const SPIN_DURATION_US = '200';

const NO_SINKS = { sinkKeys: new Float32Array(), sinkValues: new Float32Array() };

/** What distinguishes graphs of one model. */
export interface GraphVariant {
  readonly executionProvider: ExecutionProvider;
  readonly groupParts: number;
}

/** Runs a written graph. The buffers of an input are read in place, none is copied. */
export class OnnxRunner implements ModelRunner {
  readonly shape: ModelShape;
  readonly #session: InferenceSession;
  readonly #config: ModelConfig;
  readonly #variant: GraphVariant;
  readonly #rope: RopeTable | null;

  constructor(session: InferenceSession, config: ModelConfig, variant: GraphVariant) {
    this.#session = session;
    this.#config = config;
    this.#variant = variant;
    this.#rope = config.rope === null ? null : new RopeTable(config.rope);
    this.shape = {
      numLayers: config.numLayers,
      numKvHeads: config.numKvHeads,
      headDim: config.headDim,
      vocabSize: config.vocabSize,
      maxSequenceTokens: config.maxSequenceTokens,
      slidingWindow: config.slidingWindow,
      canSlide: hasSinks(config, variant.executionProvider),
    };
  }

  async run(input: ModelInput): Promise<ModelOutput> {
    const outputs = await this.#session.run(this.#toFeeds(input));
    const floats = (name: string) => {
      const data = outputs[name]?.data;
      invariant(data instanceof Float32Array, `the graph has no output ${name}`);
      return data;
    };
    const layers = input.layers.map((_, layer) => layer);
    return {
      logits: floats('logits'),
      newKeys: layers.map((layer) => floats(newKeysName(layer))),
      newValues: layers.map((layer) => floats(newValuesName(layer))),
    };
  }

  async close(): Promise<void> {
    await this.#session.release();
  }

  #toFeeds(input: ModelInput): Record<string, Tensor> {
    const { numRows, numNewTokens, frozenCapacity, tailCapacity, sinks } = input;
    const { canSlide } = this.shape;
    invariant(canSlide || sinks === null, 'the model has no sinks');
    const sinkCapacity = sinks?.capacity ?? 0;
    const { numKvHeads, headDim } = this.#config;
    const tokens = [numRows, numNewTokens];
    const between = ones(this.#variant.groupParts);
    const columns = (count: number) => [numRows, numKvHeads, ...between.slice(1), count, headDim];
    const tail = [numRows, numKvHeads, tailCapacity, headDim];
    const partSizes = [...(canSlide ? [sinkCapacity] : []), frozenCapacity, tailCapacity];
    const frozen = columns(frozenCapacity);
    const numColumns = sinkCapacity + frozenCapacity + tailCapacity;
    const feeds: Record<string, Tensor> = {
      tokenIds: new Tensor('int32', input.tokenIds, tokens),
      mask: new Tensor('float32', input.mask, [numRows, ...between, numNewTokens, numColumns]),
      writeIndices: this.#toWriteIndices(input),
      partSizes: new Tensor('int64', BigInt64Array.from(partSizes, BigInt)),
      logitIndices: new Tensor('int32', input.logitIndices),
    };
    this.#addPositions(feeds, input, tokens);
    for (const [layer, cache] of input.layers.entries()) {
      feeds[`frozenKeys.${layer}`] = new Tensor('float32', cache.frozenKeys, frozen);
      feeds[`frozenValues.${layer}`] = new Tensor('float32', cache.frozenValues, frozen);
      feeds[`tailKeys.${layer}`] = new Tensor('float32', cache.tailKeys, tail);
      feeds[`tailValues.${layer}`] = new Tensor('float32', cache.tailValues, tail);
      if (!canSlide) continue;
      const { sinkKeys, sinkValues } = sinks?.layers[layer] ?? NO_SINKS;
      feeds[`sinkKeys.${layer}`] = new Tensor('float32', sinkKeys, columns(sinkCapacity));
      feeds[`sinkValues.${layer}`] = new Tensor('float32', sinkValues, columns(sinkCapacity));
    }
    return feeds;
  }

  /** [numRows]; for ScatterND [numRows, numKvHeads, numNewTokens, 3]: row, head and column. */
  #toWriteIndices({ numRows, numNewTokens, writeIndices }: ModelInput): Tensor {
    if (this.#variant.executionProvider === 'cpu') {
      return new Tensor('int64', BigInt64Array.from(writeIndices, BigInt));
    }
    const { numKvHeads } = this.#config;
    const places = new BigInt64Array(numRows * numKvHeads * numNewTokens * 3);
    for (let i = 0; i < places.length / 3; i += 1) {
      const head = Math.floor(i / numNewTokens);
      const row = Math.floor(head / numKvHeads);
      places[3 * i] = BigInt(row);
      places[3 * i + 1] = BigInt(head % numKvHeads);
      places[3 * i + 2] = BigInt(writeIndices[row]! + (i % numNewTokens));
    }
    return new Tensor('int64', places, [numRows, numKvHeads, numNewTokens, 3]);
  }

  #addPositions(
    feeds: Record<string, Tensor>,
    { positions, sinks }: ModelInput,
    tokens: readonly number[],
  ): void {
    if (this.#rope === null) {
      feeds.positions = new Tensor('int32', positions, tokens);
      return;
    }
    const { cos, sin } = this.#toRotation(this.#rope, positions, tokens);
    feeds.cos = cos;
    feeds.sin = sin;
    if (!this.shape.canSlide) return;
    // Where nothing looks at sinks, any rotation will do.
    const placed = sinks ? this.#toRotation(this.#rope, sinks.places, tokens) : { cos, sin };
    feeds.placeCos = placed.cos;
    feeds.placeSin = placed.sin;
  }

  #toRotation(rope: RopeTable, positions: Int32Array, tokens: readonly number[]) {
    const numPairs = this.#config.headDim / 2;
    const cos = new Float32Array(positions.length * numPairs);
    const sin = new Float32Array(positions.length * numPairs);
    rope.fill(positions, cos, sin);
    const dims = [...tokens, numPairs];
    return { cos: new Tensor('float32', cos, dims), sin: new Tensor('float32', sin, dims) };
  }
}

/**
 * Loads a written graph into the runtime.
 *
 * @throws {ModelError} when the provider cannot run it on this machine
 */
export async function openSession(
  path: string,
  { executionProvider, numThreads, hasSpinningThreads }: SessionSettings,
): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(path, {
      executionProviders: [executionProvider],
      intraOpNumThreads: numThreads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 4, // what matters is thrown
      extra: {
        session: {
          intra_op: {
            allow_spinning: hasSpinningThreads ? '1' : '0',
            spin_duration_us: SPIN_DURATION_US,
          },
          // Processors without VNNI would cut off sums of uint8 and int8 products.
          x64quantprecision: '1',
          // A node that went back to the CPU would take the cache with it.
          disable_cpu_ep_fallback: executionProvider === 'webgpu' ? '1' : '0',
        },
      },
    });
  } catch (cause) {
    throw new ModelError(refusalOf(path, executionProvider, cause), { cause });
  }
}

/** What to do about a graph that does not load, and in the runtime's own words why. */
function refusalOf(path: string, executionProvider: ExecutionProvider, cause: unknown): string {
  const [line = ''] = String(cause instanceof Error ? cause.message : cause).split('\n');
  const reason = line.replace(/^\/onnxruntime_src\/.* was false\. /, ''); // where it says so
  if (/\badapter\b/i.test(reason)) {
    return `the execution provider webgpu needs a GPU with a Vulkan driver: ${reason}`;
  }
  const remedy = executionProvider === 'cpu' ? '; delete its directory and start again' : '';
  return `${path} cannot be loaded on ${executionProvider}: ${reason}${remedy}`;
}
