/** Records that something happened. Never given prompts or outputs. */
export type Log = (event: string, fields: Readonly<Record<string, unknown>>) => void;

/** One line of JSON for each event, on whatever the platform shows of standard error. */
export const consoleLog: Log = (event, fields) => {
  const line = { time: new Date().toISOString(), event, ...fields };
  console.error(
    JSON.stringify(line, (_, value) => (value instanceof Error ? toFields(value) : value)),
  );
};

function toFields(error: Error) {
  return { name: error.name, message: error.message, stack: error.stack, cause: error.cause };
}
