import { type ChatTemplate, ChatTemplateError } from '../shared/chat-template.ts';
import { PlatformError } from '../shared/errors.ts';
import type { TokenId } from '../shared/ids.ts';
import type { ModelCard } from '../shared/protocol/model-card.ts';
import type { GenerationRequest } from '../shared/protocol/request.ts';
import type { ChatRequest } from '../shared/protocol/request-chat.ts';
import type { Prompt } from '../shared/protocol/request-completions.ts';
import type { TextTools } from './catalog.ts';

/** The model that a request's texts are encoded for. */
export interface PromptContext {
  readonly card: ModelCard;
  readonly tools: TextTools;
}

/** A text and where it stands in the body. */
interface NamedText {
  readonly text: string;
  readonly param: string;
  readonly addSpecialTokens: boolean;
}

/**
 * Tokens of a prompt under `sinks`, which sees no more of it than its last nine windows: enough for
 * those, and not so many that encoding, queuing and reading them took minutes.
 */
const MAX_ENDLESS_PROMPT_TOKENS = 131_072;

/**
 * The tokens of a request's prompts.
 *
 * @throws {PlatformError} `context_length_exceeded`, or `invalid_request` for tokens that the model
 *   does not have, for no token at all, or for a chat with a model that knows none
 */
export async function encodePrompts(
  request: GenerationRequest,
  context: PromptContext,
): Promise<TokenId[][]> {
  const maxTokens = maxPromptTokens(request, context.card);
  if (request.endpoint === 'chat') return [await encodeMessages(request, context, maxTokens)];
  const isAlone = request.prompts.length === 1;
  const prompts: TokenId[][] = [];
  for (const [i, prompt] of request.prompts.entries()) {
    const param = isAlone ? 'prompt' : `prompt[${i}]`;
    prompts.push(await encodePrompt(prompt, param, context, maxTokens));
  }
  return prompts;
}

/** The tokens of predicted output; `null` when the client predicts none. */
export async function encodePrediction(
  request: GenerationRequest,
  context: PromptContext,
): Promise<TokenId[] | null> {
  if (request.endpoint === 'completions' || request.prediction === null) return null;
  const named = { text: request.prediction, param: 'prediction', addSpecialTokens: false };
  return encodeText(named, context, maxPromptTokens(request, context.card));
}

/** Tokens that a prompt can have at most; under `stop` the answer wants room beside them. */
export function maxPromptTokens(
  { contextPolicy }: Pick<GenerationRequest, 'contextPolicy'>,
  { maxSequenceTokens }: ModelCard,
): number {
  if (contextPolicy.type === 'stop') return maxSequenceTokens;
  return Math.max(maxSequenceTokens, MAX_ENDLESS_PROMPT_TOKENS);
}

async function encodePrompt(
  prompt: Prompt,
  param: string,
  context: PromptContext,
  maxTokens: number,
): Promise<TokenId[]> {
  if (typeof prompt !== 'string') {
    checkTokenIds(prompt, param, context.card);
    return [...prompt];
  }
  const named = { text: prompt, param, addSpecialTokens: true };
  const tokenIds = await encodeText(named, context, maxTokens);
  if (tokenIds.length > 0) return tokenIds;
  const message = `${param} is empty, and ${context.card.name} has no token to begin with`;
  throw new PlatformError('invalid_request', message, { param });
}

async function encodeMessages(
  { messages }: ChatRequest,
  context: PromptContext,
  maxTokens: number,
): Promise<TokenId[]> {
  const text = chatTemplateOf(context).render(messages);
  const named = { text, param: 'messages', addSpecialTokens: false };
  const tokenIds = await encodeText(named, context, maxTokens);
  if (tokenIds.length > 0) return tokenIds;
  throw new PlatformError('invalid_request', 'messages make an empty prompt', {
    param: 'messages',
  });
}

function chatTemplateOf({ card, tools }: PromptContext): ChatTemplate {
  let reason = 'has no chat template';
  try {
    const template = tools.chatTemplate();
    if (template !== null) return template;
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    reason = `has a chat template that cannot be read (${error.message})`;
  }
  const message = `${card.name} ${reason}; use /v1/completions`;
  throw new PlatformError('invalid_request', message, { param: 'model' });
}

async function encodeText(
  { text, param, addSpecialTokens }: NamedText,
  { card, tools }: PromptContext,
  maxTokens: number,
): Promise<TokenId[]> {
  const tokenIds = await tools.encoder.encode(text, { addSpecialTokens, maxTokens });
  if (tokenIds === null) {
    const message = `${param} has ${text.length} characters; the limit is ${maxTokens} tokens`;
    throw new PlatformError('context_length_exceeded', message, { param });
  }
  // A tokenizer may know more tokens than the model, as where some were added and never trained.
  checkTokenIds(tokenIds, param, card);
  return tokenIds;
}

/** @throws {PlatformError} `invalid_request` for a token the model does not have */
export function checkTokenIds(
  tokenIds: readonly TokenId[],
  param: string,
  { vocabSize, name }: ModelCard,
): void {
  const wrong = tokenIds.find((id) => id >= vocabSize);
  if (wrong === undefined) return;
  const message = `${param} holds token ${wrong}; the vocabulary of ${name} ends at ${vocabSize - 1}`;
  throw new PlatformError('invalid_request', message, { param });
}
