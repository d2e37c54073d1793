package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"postern/policies"
	"postern/service/apply"
)

const (
	settle     = 200 * time.Millisecond // how long a folder of policies must be quiet before it is read: an editor writes in several steps
	look       = time.Second            // how often it is looked whether the folder is still the one that is watched
	retryAfter = 5 * time.Second        // how old the catalogue may be, while requests come in, where policies do not fit it
)

// watchPolicies reads the policies again when their folder changes or SIGHUP
// comes, until ctx ends.
func (s *Service) watchPolicies(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var (
		watched = &folder{path: filepath.Clean(s.policies.Dir())}
		changes <-chan fsnotify.Event
		looks   <-chan time.Time
	)
	if s.policies.Dir() != "" {
		watcher, err := fsnotify.NewWatcher()
		if err == nil {
			defer watcher.Close()
			watched.watcher, changes = watcher, watcher.Events
			ticker := time.NewTicker(look)
			defer ticker.Stop()
			looks = ticker.C
			_, err = watched.follow()
		}
		if err != nil {
			s.logger.Warn("cannot watch the policies, which are read again on SIGHUP alone", "error", err)
		}
	}
	quiet := time.NewTimer(settle) // once from the start: they may have changed since they were loaded
	for {
		select {
		case <-changes:
			quiet.Reset(settle)
		case <-looks:
			if moved, _ := watched.follow(); moved {
				quiet.Reset(settle)
			}
		case <-quiet.C:
			s.reloadPolicies(ctx)
		case <-hangup:
			s.reloadPolicies(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// folder is what a path leads to, watched. The system watches a folder and not its
// path: when one is deleted and made anew, or a link is made to lead elsewhere,
// nothing more comes from there.
type folder struct {
	path    string
	watcher *fsnotify.Watcher
	is      os.FileInfo // what is watched; nil where nothing is
}

// follow watches what the path leads to now, and reports whether that is another
// folder than before.
func (f *folder) follow() (moved bool, err error) {
	is, err := os.Stat(f.path)
	if err == nil && f.is != nil && os.SameFile(is, f.is) && slices.Contains(f.watcher.WatchList(), f.path) {
		return false, nil
	}
	before := f.is
	f.is = nil
	_ = f.watcher.Remove(f.path) // which is not watched where it was deleted
	if err == nil {
		err = f.watcher.Add(f.path)
	}
	if err != nil {
		return before != nil, err
	}
	f.is = is
	return true, nil
}

func (s *Service) reloadPolicies(ctx context.Context) {
	changed, err := s.policies.Reload(s.catalog.Snapshot(), s.checkLookups)
	if err != nil && s.policies.Refused() && s.catalog.Refresh(ctx) == nil {
		// They may have come together with a migration.
		changed, err = s.policies.Retry(s.catalog.Snapshot(), s.checkLookups)
	}
	switch {
	case changed:
		s.policiesTaken()
		s.catalog.Renew(0) // which looks at what else they need of the database
	case err != nil:
		s.logger.Error("the new policies are not taken, those in force stay", "sha256", s.policies.SHA256(), "error", err)
	}
}

func (s *Service) policiesTaken() {
	s.logger.Info("policies reloaded", "sha256", s.policies.SHA256())
}

// lookups is what Postgres said of a set's lookups.
type lookups struct {
	set      *policies.Set
	problems error
}

// checkLookups has Postgres read the lookups of a set before it comes into force.
func (s *Service) checkLookups(set *policies.Set) error {
	problems, err := s.readLookups(set)
	if err == nil && problems == nil {
		s.lookups.Store(&lookups{set, nil})
	}
	return errors.Join(problems, err)
}

// prepareLookups has Postgres read the lookups of the set in force, where it has
// not seen them or found something wrong: a view or a function that they need may
// be there now.
func (s *Service) prepareLookups(set *policies.Set) {
	if seen := s.lookups.Load(); seen != nil && seen.set == set && seen.problems == nil {
		return
	}
	problems, err := s.readLookups(set)
	if err != nil {
		s.logger.Warn("will try again", "error", err)
		return
	}
	if problems != nil {
		s.logger.Error("the policies' lookups do not fit the database", "error", problems)
	}
	s.lookups.Store(&lookups{set, problems})
}

func (s *Service) readLookups(set *policies.Set) (problems, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, role := range s.roles {
		found, err := apply.PrepareLookups(ctx, s.db, role, s.catalog.Snapshot().Settings(role), set)
		if err != nil {
			return nil, fmt.Errorf("cannot check the policies' lookups: %w", err)
		}
		problems = errors.Join(problems, found)
	}
	return problems, nil
}
