import { NOTHING_PUBLISHED } from '../../../shared/protocol/generation.ts';
import { loadConfig } from '../../../worker/config.ts';
import { chooseFormat } from '../../../worker/model/choose-format.ts';
import { EngineClient } from '../../../worker/thread/client.ts';
import { jobOf } from '../../support/jobs.ts';
import { answerParent } from '../child.ts';
import { putLoad, type Send } from './load.ts';
import type { LoadPlan } from './plan.ts';

/**
 * The engine alone, as a worker with this environment holds it: what edge, queue and log are
 * compared with.
 */
const { model, ...config } = loadConfig({ ...process.env, REDIS_URL: 'redis://none' });
const weightFormat = model.weightFormat === 'auto' ? await chooseFormat(model) : model.weightFormat;
const engine = await EngineClient.open({ ...model, ...config, weightFormat });

const send: Send = (planned, onEvent) => {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const job = jobOf({
    prompts: [[...planned.promptTokenIds]],
    sampling: { ...jobOf().sampling, temperature: 0.8, topP: 0.95, seed: planned.seed },
    maxTokens: planned.numTokens,
    ignoreEos: true,
    speculation: 'off',
  });
  engine.start(job, { choices: [NOTHING_PUBLISHED] }, (events) => {
    for (const event of events) {
      if (event.type === 'tokens') onEvent();
      if (event.type === 'end') resolve(event.usage.completionTokens);
      if (event.type === 'error') reject(new Error(event.message));
    }
  });
  return promise;
};

answerParent((plan: LoadPlan) => putLoad(plan, send));
