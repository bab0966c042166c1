import { describeOpenAiClient } from '../support/openai-conformance.ts';
import { openStack } from '../support/stack.ts';

describeOpenAiClient('everything that npm start starts', () => openStack());
