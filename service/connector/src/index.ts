export { OtherUserError, PosternConnector, type Decision, type OtherUser, type OtherUserDecision, type PosternOptions } from './connector.ts';
export type { Database } from './queue.ts';
export { PosternError, type Fetch } from './transport.ts';
export type { FatalError, Operation } from './wire.ts';
