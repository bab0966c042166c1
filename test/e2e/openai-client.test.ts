import { describeOpenAiClient } from '../support/openai-conformance.ts';
import { openStack } from '../support/stack.ts';

// No grace: with one, the embedded model would be done before an abandoned request is cancelled.
describeOpenAiClient('everything that npm start starts', () =>
  openStack({ DISCONNECT_GRACE_MS: '0' }),
);
