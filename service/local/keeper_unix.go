//go:build unix

package local

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ownGroup keeps Ctrl-C from the keeper, which ends after the process that started it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stepDown gives up root's rights for good.
func (j job) stepDown() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups([]int{j.GID}), syscall.Setgid(j.GID), syscall.Setuid(j.UID)); err != nil {
		return fmt.Errorf("Postgres refuses to run as root, and this process cannot become another user: %w", err)
	}
	return nil
}

// tryLock locks a file until it is closed, or fails if another process has locked it.
func tryLock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
