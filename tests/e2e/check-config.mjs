// Reads a configuration of the PowerSync Service from standard input, and prints what is
// wrong with it, as a JSON array of sentences.
//   check-config.mjs sync FILE    sync streams or sync rules, against the schema in FILE
//   check-config.mjs service      powersync.yaml
import { readFileSync } from 'node:fs';

import { SqlSyncRules, StaticSchema } from '@powersync/service-sync-rules';
import schema from '@powersync/service-schema/schema.json' with { type: 'json' };
import Ajv from 'ajv';
import { parse } from 'yaml';

const [kind, file] = process.argv.slice(2);
const text = readFileSync(0, 'utf8');
console.log(JSON.stringify(kind === 'sync' ? syncProblems(text, file) : serviceProblems(parse(text))));

function syncProblems(text, file) {
  const connections = [{ tag: 'default', schemas: JSON.parse(readFileSync(file, 'utf8')) }];
  const { errors } = SqlSyncRules.fromYaml(text, { defaultSchema: 'public', schema: new StaticSchema(connections), throwOnError: false });
  return errors.map(({ type, message }) => `${type}: ${message}`);
}

function serviceProblems(config) {
  const validate = new Ajv({ allErrors: true, allowUnionTypes: true }).compile(schema);
  return validate(config) ? [] : validate.errors.map(({ instancePath, message }) => `${instancePath} ${message}`);
}
