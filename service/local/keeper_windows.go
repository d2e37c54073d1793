package local

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// ownGroup keeps Ctrl-C from the keeper, which ends after the process that started it.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// stepDown has nothing to do: pg_ctl itself gives up an administrator's rights.
func (job) stepDown() error { return nil }

// tryLock locks a file until it is closed, or fails if another process has locked it.
func tryLock(file *os.File) error {
	return windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{})
}
