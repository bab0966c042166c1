import { invariant } from '../shared/assert.ts';
import { type ChatTemplate, createChatTemplate } from '../shared/chat-template.ts';
import { PlatformError } from '../shared/errors.ts';
import type { ModelCard, TokenizerFiles } from '../shared/protocol/model-card.ts';
import { createTokenizer } from '../shared/tokenizer.ts';
import { createInlineEncoder, type Encoder } from './encoder.ts';
import type { ServedModel, Transport } from './transport/transport.ts';

/** Tokenizers kept at once; the one unused for longest goes first. */
const MAX_TOKENIZERS = 16;

export interface TextTools {
  readonly encoder: Encoder;
  /**
   * @returns `null` for a model that was not trained for chat
   * @throws {ChatTemplateError} when the model's template cannot be read
   */
  readonly chatTemplate: () => ChatTemplate | null;
}

export type CreateEncoder = (files: TokenizerFiles) => Encoder;

export interface ModelCatalog {
  /**
   * The card under which to queue a request: of the fingerprints that serve the model, that with
   * most workers.
   *
   * @throws {PlatformError} `model_not_found` when nobody ever served it, `no_worker` when nobody
   *   does now
   */
  find(transport: Transport, name: string): Promise<ModelCard>;

  /** @throws {PlatformError} `unavailable` when the tokenizer's files are not stored */
  textTools(transport: Transport, card: ModelCard): Promise<TextTools>;
}

/** Every model by name, served or not: of its fingerprints, that with most workers. */
export function bestByName(served: readonly ServedModel[]): ReadonlyMap<string, ServedModel> {
  const bestOf = new Map<string, ServedModel>();
  for (const model of served) {
    const other = bestOf.get(model.card.name);
    if (other === undefined || isBetter(model, other)) bestOf.set(model.card.name, model);
  }
  return bestOf;
}

function isBetter(model: ServedModel, other: ServedModel): boolean {
  if (model.numWorkers !== other.numWorkers) return model.numWorkers > other.numWorkers;
  return model.card.fingerprint < other.card.fingerprint;
}

/** @param createEncoder decides where texts are encoded */
export function createModelCatalog(createEncoder: CreateEncoder = createHere): ModelCatalog {
  // Values, never promises: on Workers a promise belongs to the request that made it.
  const toolsByDigest = new Map<string, TextTools>();
  return {
    async find(transport, name) {
      const model = bestByName(await transport.models()).get(name);
      if (model === undefined) {
        const message = `the model ${JSON.stringify(name)} does not exist`;
        throw new PlatformError('model_not_found', message, { param: 'model' });
      }
      if (model.numWorkers > 0) return model.card;
      throw new PlatformError('no_worker', `no worker serves ${name} at the moment`);
    },

    async textTools(transport, { tokenizerDigest: digest }) {
      if (!toolsByDigest.has(digest)) {
        const files = await transport.tokenizerFiles(digest);
        // Another request may have been faster; building twice would cost more than asking twice.
        if (!toolsByDigest.has(digest))
          toolsByDigest.set(digest, createTools(files, createEncoder));
      }
      const tools = toolsByDigest.get(digest);
      invariant(tools !== undefined, `tokenizer ${digest} is not kept`);
      toolsByDigest.delete(digest); // put back at the end: a map keeps the order of insertion
      toolsByDigest.set(digest, tools);
      if (toolsByDigest.size > MAX_TOKENIZERS) dropOldest(toolsByDigest);
      return tools;
    },
  };
}

function createHere(files: TokenizerFiles): Encoder {
  return createInlineEncoder(createTokenizer(files));
}

function createTools(files: TokenizerFiles, createEncoder: CreateEncoder): TextTools {
  let template: ChatTemplate | null | undefined; // read by the first chat: others do without
  return {
    encoder: createEncoder(files),
    chatTemplate() {
      if (template === undefined) template = createChatTemplate(files);
      return template;
    },
  };
}

function dropOldest(toolsByDigest: Map<string, TextTools>): void {
  for (const [digest, { encoder }] of toolsByDigest) {
    toolsByDigest.delete(digest);
    encoder.close();
    return;
  }
}
