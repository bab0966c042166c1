import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { z } from 'zod';
import type { Keys } from '../shared/protocol/keys.ts';
import type { WorkerConfig } from './config.ts';
import { WEIGHT_FORMATS, type WeightFormat } from './model/builder.ts';
import { openCheckpoint } from './model/checkpoint.ts';
import { digestFiles } from './model/digest.ts';
import { processorClass } from './model/processor.ts';
import type { RedisClient } from './queue/connection.ts';
import { settleAuto } from './queue/registry.ts';

const formatSchema = z.enum(WEIGHT_FORMATS);

/**
 * The weight format to serve in. For `auto` it is what the first worker of the model, on this kind
 * of processor, measured: workers of different formats could not finish each other's sentences.
 *
 * @throws {Error} one line, when the model cannot be served
 */
export async function settleWeightFormat(
  model: WorkerConfig['model'],
  client: RedisClient,
  keys: Keys,
): Promise<WeightFormat> {
  if (model.weightFormat !== 'auto') return model.weightFormat;
  const settled = await settleAuto(client, keys, {
    model: model.name,
    setting: `weight_format_${model.executionProvider}_${await kindOf(model)}`,
    choose: () => measure(model),
  });
  return formatSchema.parse(settled);
}

/** What is measured: these weights on this kind of processor. */
async function kindOf({ modelDir }: WorkerConfig['model']): Promise<string> {
  const { weights, paths } = openCheckpoint(modelDir);
  weights.close();
  const digest = await digestFiles(paths);
  return `${digest.slice(0, 16)}_${processorClass()}`;
}

async function measure(model: WorkerConfig['model']): Promise<WeightFormat> {
  const { modelDir, cacheDir, executionProvider, numThreads } = model;
  const thread = new Worker(new URL('./thread/choose-format.ts', import.meta.url), {
    workerData: { modelDir, cacheDir, executionProvider, numThreads },
    name: 'weight format',
  });
  const [choice] = await once(thread, 'message'); // rejects when the thread fails
  await thread.terminate();
  return formatSchema.parse(choice);
}
