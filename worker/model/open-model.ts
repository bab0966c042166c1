import { availableParallelism } from 'node:os';
import { env } from 'onnxruntime-node';
import { planThreads } from './attention.ts';
import type { ExecutionProvider, WeightFormat } from './builder.ts';
import { type Checkpoint, openCheckpoint } from './checkpoint.ts';
import { digestFiles } from './digest.ts';
import { ensureGraph, GRAPH_VERSION } from './graph-cache.ts';
import { ModelError } from './model-error.ts';
import { OnnxRunner, openSession } from './onnx-runner.ts';
import { processorClass } from './processor.ts';
import type { ModelRunner } from './runner.ts';

export interface ModelOptions {
  readonly modelDir: string;
  /** Where written graphs are kept. */
  readonly cacheDir: string;
  readonly executionProvider: ExecutionProvider;
  readonly weightFormat: WeightFormat;
  readonly numThreads: number;
  /** Whether threads wait actively between two products; by default when they leave a core free. */
  readonly hasSpinningThreads?: boolean;
}

export interface OpenModel {
  readonly runner: ModelRunner;
  readonly checkpoint: Omit<Checkpoint, 'weights'>;
  /** sha256 over config, generation config, weights and tokenizer. */
  readonly digest: string;
  /** Names what decides the bits of an answer; see `fingerprintOf`. */
  readonly fingerprint: string;
}

/**
 * Makes a model directory ready to run: checks it, writes its graph at first use, loads it.
 *
 * @throws {ModelError} one line: which file, what was expected, what to do
 */
export async function openModel(options: ModelOptions): Promise<OpenModel> {
  const { cacheDir, executionProvider, weightFormat } = options;
  if (executionProvider === 'webgpu' && weightFormat === 'int8') {
    throw new ModelError(
      'the weight format int8 runs on the CPU only; on webgpu choose fp32, q8 or q4',
    );
  }
  const checkpoint = openCheckpoint(options.modelDir);
  const { config } = checkpoint;
  try {
    const digest = await digestFiles(checkpoint.paths);
    const plan = planThreads(config, executionProvider === 'cpu' ? options.numThreads : 1);
    const { groupParts, numThreads } = plan;
    const request = { checkpoint, digest, cacheDir, executionProvider, weightFormat, groupParts };
    const session = await openSession(ensureGraph(request), {
      executionProvider,
      numThreads,
      hasSpinningThreads: options.hasSpinningThreads ?? numThreads < availableParallelism(),
    });
    return {
      runner: new OnnxRunner(session, config, { executionProvider, groupParts }),
      checkpoint,
      digest,
      fingerprint: fingerprintOf(digest, options),
    };
  } finally {
    checkpoint.weights.close();
  }
}

/**
 * What decides the bits of an answer: the model's files, the weight format, the provider, what the
 * processor can do, the graph that is written and the runtime whose kernels run it. A release that
 * changes one of the last two gives workers another name, so that none finishes a sentence that
 * one of an older release has begun.
 */
function fingerprintOf(
  digest: string,
  { weightFormat, executionProvider }: Pick<ModelOptions, 'weightFormat' | 'executionProvider'>,
): string {
  const release = `g${GRAPH_VERSION}.ort${env.versions.node}`;
  const parts = [digest.slice(0, 16), weightFormat, executionProvider, processorClass(), release];
  return parts.join('-');
}
