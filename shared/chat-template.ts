import { Template } from '@huggingface/jinja';
import { z } from 'zod';
import { PlatformError } from './errors.ts';
import type { TokenizerFiles } from './protocol/model-card.ts';
import type { ChatMessage } from './protocol/request-chat.ts';

/** A template that is none. */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

/** Turns a conversation into the text that the model was trained to continue. */
export interface ChatTemplate {
  /** @throws {PlatformError} `invalid_request` when the template refuses the conversation */
  render(messages: readonly ChatMessage[]): string;
}

const specialTokenSchema = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .transform((token) => (typeof token === 'string' ? token : token.content));

const namedTemplatesSchema = z.array(z.object({ name: z.string(), template: z.string() }));

const configSchema = z.looseObject({
  bos_token: specialTokenSchema.nullish(),
  eos_token: specialTokenSchema.nullish(),
  unk_token: specialTokenSchema.nullish(),
  pad_token: specialTokenSchema.nullish(),
  chat_template: z.union([z.string(), namedTemplatesSchema]).nullish(),
});

/**
 * @returns `null` when the model has no template: it was not trained for chat
 * @throws {ChatTemplateError} saying what is wrong with its template
 */
export function createChatTemplate({ tokenizerConfigJson }: TokenizerFiles): ChatTemplate | null {
  const config = configSchema.parse(JSON.parse(tokenizerConfigJson));
  const source = Array.isArray(config.chat_template)
    ? config.chat_template.find(({ name }) => name === 'default')?.template
    : config.chat_template;
  if (typeof source !== 'string') return null;

  const template = readTemplate(source);
  const knowsDeveloper = source.includes('developer');
  const tokens = {
    bos_token: config.bos_token ?? '',
    eos_token: config.eos_token ?? '',
    unk_token: config.unk_token ?? '',
    pad_token: config.pad_token ?? '',
  };
  return {
    render(messages) {
      try {
        return template.render({
          ...tokens,
          messages: messages.map((message) => toTemplateMessage(message, knowsDeveloper)),
          add_generation_prompt: true,
        });
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        const message = `the model's chat template refuses these messages: ${reason}`;
        throw new PlatformError('invalid_request', message, { cause, param: 'messages' });
      }
    },
  };
}

function readTemplate(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    throw new ChatTemplateError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/**
 * Most templates know `system` only, the older name of `developer`, and want arguments as objects.
 */
function toTemplateMessage({ toolCalls, ...message }: ChatMessage, knowsDeveloper: boolean) {
  const isRenamed = message.role === 'developer' && !knowsDeveloper;
  return {
    ...message,
    role: isRenamed ? 'system' : message.role,
    ...(toolCalls !== undefined && { tool_calls: toolCalls.map(toTemplateCall) }),
  };
}

function toTemplateCall(call: NonNullable<ChatMessage['toolCalls']>[number]) {
  const { name } = call.function;
  return { ...call, function: { name, arguments: parseArguments(call.function.arguments) } };
}

/** What is no JSON object reaches the template as the text it is. */
function parseArguments(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
