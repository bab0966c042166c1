import { readFileSync } from 'node:fs';
import { integerFrom, pickFrom, type Rng } from '../support/random.ts';

/** A request, and how its client behaves. */
export interface ChaosRequest {
  readonly path: string;
  readonly body: Readonly<Record<string, unknown>>;
}

const openings: string[] = JSON.parse(
  readFileSync(new URL('../fixtures/prompts.json', import.meta.url), 'utf8'),
);

/** A request with a mix of options that its bytes must not depend on dying machines for. */
export function randomRequest(rng: Rng): ChaosRequest {
  const isChat = rng() < 0.3;
  const opening = pickFrom(rng, openings);
  const options = {
    model: 'stories-target',
    seed: integerFrom(rng, 0, 2 ** 31),
    temperature: pickFrom(rng, [0, 0.7, 1, 1.3]),
    ignore_eos: rng() < 0.7,
    ...(rng() < 0.3 ? { top_p: 0.9 } : {}),
    ...(rng() < 0.2 ? { min_p: 0.05 } : {}),
    ...(rng() < 0.3 ? { frequency_penalty: 0.5, presence_penalty: 0.2 } : {}),
    ...(rng() < 0.2 ? { repetition_penalty: 1.2 } : {}),
    ...(rng() < 0.3
      ? { stop: [pickFrom(rng, ['happily ever', '."', 'mom said', 'The end'])] }
      : {}),
    ...(rng() < 0.3 ? { n: 2 } : {}),
    ...(rng() < 0.2 ? { speculation: 'off' } : {}),
    on_disconnect: rng() < 0.5 ? 'continue' : 'cancel',
  };
  const isSliding = rng() < 0.3;
  const window_tokens = pickFrom(rng, [8, 30, 120]); // so short that contexts are begun anew
  const sliding = isSliding ? { context_policy: 'sinks', window_tokens } : {};
  const stream = rng() < 0.75;
  const streaming = stream ? { stream, stream_options: { include_usage: true } } : {};
  const max_tokens = integerFrom(rng, 40, 360);
  if (isChat) {
    const messages = [{ role: 'user', content: opening }];
    const logprobs = rng() < 0.3 ? { logprobs: true, top_logprobs: 2 } : {};
    const path = '/v1/chat/completions';
    return {
      path,
      body: { ...options, ...sliding, ...streaming, ...logprobs, messages, max_tokens },
    };
  }
  const logprobs = rng() < 0.3 ? { logprobs: 2 } : {};
  const echo = rng() < 0.2 && !isSliding ? { echo: true } : {};
  const answer = { ...streaming, ...logprobs, ...echo, max_tokens };
  const body = { ...options, ...sliding, ...answer, prompt: opening };
  return { path: '/v1/completions', body };
}
