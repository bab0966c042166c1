import { PlatformError } from '../shared/errors.ts';
import type { RequestId, TenantId, TokenId } from '../shared/ids.ts';
import { MAX_SINK_TOKENS } from '../shared/protocol/endless.ts';
import type { ContextPolicy, Job, SamplingParams } from '../shared/protocol/job.ts';
import type { ModelCard } from '../shared/protocol/model-card.ts';
import type { GenerationRequest } from '../shared/protocol/request.ts';
import type { ChatRequest } from '../shared/protocol/request-chat.ts';
import type { Prompt } from '../shared/protocol/request-completions.ts';
import type { GenerationOptions } from '../shared/protocol/request-fields.ts';
import type { TextTools } from './catalog.ts';
import { checkTokenIds, type EncodeTextOptions, encodeText } from './prompt.ts';

/** What a request becomes a job with. */
export interface JobContext {
  readonly id: RequestId;
  readonly tenant: TenantId;
  readonly card: ModelCard;
  readonly tools: TextTools;
  readonly nowMs: number;
  /** Used when the request brings no seed: unsigned 32 bits. */
  readonly drawSeed: () => number;
}

/** First tokens kept forever, as the paper found enough: arXiv:2309.17453, section 3. */
const DEFAULT_SINK_TOKENS = 4;

/**
 * Gives a checked request its tokens and the model's defaults, and holds both to the model's
 * limits.
 *
 * @throws {PlatformError} `context_too_long`, `unsupported_parameter` for what the model cannot do,
 *   or `invalid_request` for tokens that it does not have
 */
export function createJob(request: GenerationRequest, context: JobContext): Job {
  const { card } = context;
  const contextPolicy = toContextPolicy(request, card);
  const isBounded = contextPolicy.type === 'stop';
  const prompts = encodePrompts(request, context, isBounded ? card.maxSequenceTokens : null);
  if (isBounded) checkLengths(request, prompts, card);
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
    sampling: toSampling(request, context),
    maxTokens: request.maxTokens,
    stop: [...request.stop],
    topLogprobs: request.topLogprobs,
    echo: request.endpoint === 'completions' && request.echo,
    ignoreEos: request.ignoreEos,
    stream: request.stream,
    includeUsage: request.includeUsage,
    speculation: request.speculation,
    prediction: encodePrediction(request, context),
    contextPolicy,
    onDisconnect: request.onDisconnect,
  };
}

/** @param maxTokens `null` when prompts may be longer than the context */
function encodePrompts(
  request: GenerationRequest,
  context: JobContext,
  maxTokens: number | null,
): TokenId[][] {
  if (request.endpoint === 'chat') return [encodeMessages(request, context, maxTokens)];
  const isAlone = request.prompts.length === 1;
  return request.prompts.map((prompt, i) => {
    const options = {
      param: isAlone ? 'prompt' : `prompt[${i}]`,
      addSpecialTokens: true,
      maxTokens,
    };
    return encodePrompt(prompt, options, context);
  });
}

function encodePrompt(
  prompt: Prompt,
  options: EncodeTextOptions,
  { card, tools }: JobContext,
): TokenId[] {
  const { param } = options;
  if (typeof prompt !== 'string') {
    checkTokenIds(prompt, param, card);
    return [...prompt];
  }
  const tokenIds = encodeText(prompt, options, tools.tokenizer);
  if (tokenIds.length > 0) return tokenIds;
  const message = `${param} is empty, and ${card.name} has no token to begin with`;
  throw new PlatformError('invalid_request', message, { param });
}

function encodeMessages(
  request: ChatRequest,
  { card, tools }: JobContext,
  maxTokens: number | null,
): TokenId[] {
  if (tools.chatTemplate === null) {
    const message = `${card.name} has no chat template; use /v1/completions`;
    throw new PlatformError('invalid_request', message, { param: 'model' });
  }
  const text = tools.chatTemplate.render(request.messages);
  const options = { param: 'messages', addSpecialTokens: false, maxTokens };
  const tokenIds = encodeText(text, options, tools.tokenizer);
  if (tokenIds.length > 0) return tokenIds;
  throw new PlatformError('invalid_request', 'messages make an empty prompt', {
    param: 'messages',
  });
}

function encodePrediction(
  request: GenerationRequest,
  { card, tools }: JobContext,
): TokenId[] | null {
  if (request.endpoint === 'completions' || request.prediction === null) return null;
  const maxTokens = card.maxSequenceTokens;
  const options = { param: 'prediction', addSpecialTokens: false, maxTokens };
  return encodeText(request.prediction, options, tools.tokenizer);
}

function checkLengths(
  request: GenerationRequest,
  prompts: readonly (readonly TokenId[])[],
  { maxSequenceTokens }: ModelCard,
): void {
  const isMaxTokensGiven =
    request.endpoint === 'chat' ? request.maxTokens !== null : request.hasExplicitMaxTokens;
  const maxTokens = isMaxTokensGiven ? (request.maxTokens ?? 1) : 1;
  for (const prompt of prompts) {
    if (prompt.length + maxTokens <= maxSequenceTokens) continue;
    const param = request.endpoint === 'chat' ? 'messages' : 'prompt';
    const message =
      maxTokens <= 1
        ? `the prompt has ${prompt.length} tokens; the limit is ${maxSequenceTokens - maxTokens}`
        : `the prompt has ${prompt.length} tokens and max_tokens is ${maxTokens}, ` +
          `${prompt.length + maxTokens} together; the limit is ${maxSequenceTokens}`;
    throw new PlatformError('context_too_long', message, { param });
  }
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
