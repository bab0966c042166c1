import { PlatformError } from '../shared/errors.ts';
import type { RequestId, TenantId, TokenId } from '../shared/ids.ts';
import { MAX_SINK_TOKENS } from '../shared/protocol/endless.ts';
import type { ContextPolicy, Job, SamplingParams } from '../shared/protocol/job.ts';
import type { ModelCard } from '../shared/protocol/model-card.ts';
import type { GenerationRequest } from '../shared/protocol/request.ts';
import type { GenerationOptions } from '../shared/protocol/request-fields.ts';
import {
  checkTokenIds,
  encodePrediction,
  encodePrompts,
  maxPromptTokens,
  type PromptContext,
} from './prompt.ts';

/** What a request becomes a job with. */
export interface JobContext extends PromptContext {
  readonly id: RequestId;
  readonly tenant: TenantId;
  readonly nowMs: number;
  /** Used when the request brings no seed: unsigned 32 bits. */
  readonly drawSeed: () => number;
}

/** Output tokens of an answer under `sinks` that is not streamed: all of them are held. */
const MAX_WHOLE_TOKENS = 131_072;

/** First tokens kept forever, as the paper found enough: arXiv:2309.17453, section 3. */
const DEFAULT_SINK_TOKENS = 4;

/**
 * Gives a checked request its tokens and the model's defaults, and holds both to the model's
 * limits.
 *
 * @throws {PlatformError} `context_length_exceeded`, `unsupported_parameter` for what the model
 *   cannot do, or `invalid_request` for tokens that it does not have
 */
export async function createJob(request: GenerationRequest, context: JobContext): Promise<Job> {
  const { card } = context;
  const contextPolicy = toContextPolicy(request, card);
  checkEnd(request);
  checkMinTokens(request);
  checkTokenIds(request.stopTokenIds, 'stop_token_ids', card);
  const sampling = toSampling(request, context);
  const prompts = await encodePrompts(request, context);
  checkLengths(request, prompts, card);
  return {
    version: 1,
    id: context.id,
    tenant: context.tenant,
    endpoint: request.endpoint,
    model: card.name,
    fingerprint: card.fingerprint,
    createdMs: context.nowMs,
    deadlineMs:
      request.timeoutSeconds === null ? null : context.nowMs + request.timeoutSeconds * 1000,
    priority: request.priority,
    prompts,
    n: request.n,
    sampling,
    maxTokens: request.maxTokens,
    ...(request.minTokens > 0 && { minTokens: request.minTokens }),
    stop: [...request.stop],
    ...(request.stopTokenIds.length > 0 && { stopTokenIds: [...request.stopTokenIds] }),
    topLogprobs: request.topLogprobs,
    echo: request.endpoint === 'completions' && request.echo,
    ignoreEos: request.ignoreEos,
    stream: request.stream,
    includeUsage: request.includeUsage,
    speculation: request.speculation,
    prediction: await encodePrediction(request, context),
    contextPolicy,
    onDisconnect: request.onDisconnect,
  };
}

function checkLengths(
  request: GenerationRequest,
  prompts: readonly (readonly TokenId[])[],
  card: ModelCard,
): void {
  const limit = maxPromptTokens(request, card);
  const maxTokens = request.contextPolicy.type === 'stop' ? leastOutputTokens(request) : 0;
  for (const prompt of prompts) {
    if (prompt.length + maxTokens <= limit) continue;
    const param = request.endpoint === 'chat' ? 'messages' : 'prompt';
    const message =
      maxTokens <= 1
        ? `the prompt has ${prompt.length} tokens; the limit is ${limit - maxTokens}`
        : `the prompt has ${prompt.length} tokens and max_tokens is ${maxTokens}, ` +
          `${prompt.length + maxTokens} together; the limit is ${limit}`;
    throw new PlatformError('context_length_exceeded', message, { param });
  }
}

/**
 * Holds to an end what would go on for ever unseen: an answer that is held here until it is
 * complete to a number of tokens, and one that nobody waits for to that or to a time.
 */
function checkEnd(request: GenerationRequest): void {
  const { contextPolicy, stream, isBackground, maxTokens, timeoutSeconds } = request;
  if (contextPolicy.type === 'stop' || stream) return;
  const refuse = (message: string) => {
    throw new PlatformError('invalid_request', message, { param: 'max_tokens' });
  };
  if (isBackground) {
    if (maxTokens !== null || timeoutSeconds !== null) return;
    refuse('max_tokens is missing; in the background an answer under sinks needs it or a timeout');
  }
  if (maxTokens === null) refuse('max_tokens is missing; under sinks only a stream does without');
  else if (maxTokens > MAX_WHOLE_TOKENS) {
    refuse(`max_tokens is ${maxTokens}; without stream the limit is ${MAX_WHOLE_TOKENS}`);
  }
}

function checkMinTokens({ minTokens, maxTokens }: GenerationRequest): void {
  if (maxTokens === null || minTokens <= maxTokens) return;
  const message = `min_tokens is ${minTokens} and max_tokens is ${maxTokens}; it must not be greater`;
  throw new PlatformError('invalid_request', message, { param: 'min_tokens' });
}

/** Those that the client asks for, and one when it does not say. */
function leastOutputTokens(request: GenerationRequest): number {
  const isGiven = request.endpoint === 'chat' || request.hasExplicitMaxTokens;
  return isGiven ? (request.maxTokens ?? 1) : 1;
}

function toSampling(request: GenerationOptions, context: JobContext): SamplingParams {
  const { sampling } = request;
  const { defaults } = context.card;
  checkTokenIds(
    sampling.logitBias.map(([id]) => id),
    'logit_bias',
    context.card,
  );
  return {
    temperature: sampling.temperature ?? defaults.temperature,
    topP: sampling.topP ?? defaults.topP,
    topK: sampling.topK ?? defaults.topK,
    minP: sampling.minP ?? defaults.minP,
    presencePenalty: sampling.presencePenalty,
    frequencyPenalty: sampling.frequencyPenalty,
    repetitionPenalty: sampling.repetitionPenalty ?? defaults.repetitionPenalty,
    logitBias: sampling.logitBias.map(([id, bias]) => [id, bias]),
    seed: sampling.seed ?? context.drawSeed(),
  };
}

function toContextPolicy({ contextPolicy }: GenerationOptions, card: ModelCard): ContextPolicy {
  if (contextPolicy.type === 'stop') return { type: 'stop' };
  if (!card.canSlide) {
    const message = `${card.name} cannot go on beyond ${card.maxSequenceTokens} tokens`;
    throw new PlatformError('unsupported_parameter', message, { param: 'context_policy' });
  }
  const sinkTokens = contextPolicy.sinkTokens ?? DEFAULT_SINK_TOKENS;
  if (sinkTokens > MAX_SINK_TOKENS) {
    const message = `sink_tokens is ${sinkTokens}; the limit is ${MAX_SINK_TOKENS}`;
    throw new PlatformError('invalid_request', message, { param: 'sink_tokens' });
  }
  const windowTokens = contextPolicy.windowTokens ?? card.maxSequenceTokens - sinkTokens;
  if (windowTokens >= 1 && sinkTokens + windowTokens <= card.maxSequenceTokens) {
    return { type: 'sinks', sinkTokens, windowTokens };
  }
  const message = `sink_tokens ${sinkTokens} and window_tokens ${windowTokens} are ${sinkTokens + windowTokens} together; the limit is ${card.maxSequenceTokens}`;
  const param = contextPolicy.windowTokens === null ? 'sink_tokens' : 'window_tokens';
  throw new PlatformError('invalid_request', message, { param });
}
