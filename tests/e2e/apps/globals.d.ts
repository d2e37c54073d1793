// What the types of react-native, which are not installed here, declare for all files.
declare class AbortSignal {
  readonly aborted: boolean;
}
