package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/service/ledger"
)

func rejectedDismissCommand() *cobra.Command {
	var (
		filter      filterFlags
		by          byFlags
		allMatching bool
		expire      bool
	)
	cmd := &cobra.Command{
		Use:   "dismiss [ID...]",
		Short: "Close rejected writes without applying them",
		Long: `Close rejected writes without applying them. If a device still holds such a write
and uploads it again, it receives an answer that lets it drop the write.`,
		RunE: withRecords(func(cmd *cobra.Command, r *records, ids []string) error {
			who, err := by.parse()
			if err != nil {
				return err
			}
			if err := checkSelection(allMatching, ids); err != nil {
				return err
			}
			status := ledger.Dismissed
			if expire {
				status = ledger.Expired
			}
			if !allMatching {
				return r.dismissNamed(cmd, ids, status, who)
			}
			f, err := filter.filter()
			if err != nil {
				return err
			}
			return r.dismissAll(cmd, f, status, who)
		}),
	}
	filter.add(cmd)
	by.add(cmd)
	cmd.Flags().BoolVar(&allMatching, "all-matching", false, "every write that matches the filters")
	cmd.Flags().BoolVar(&expire, "expire", false, "close them with the status expired instead of dismissed")
	return cmd
}

func (r *records) dismissNamed(cmd *cobra.Command, ids []string, status ledger.Status, by ledger.By) error {
	for _, id := range ids {
		record, err := r.Record(cmd.Context(), id)
		if err != nil {
			return err
		}
		closed, err := r.Close(cmd.Context(), []string{record.ID}, status, by, ledger.Own{})
		switch {
		case err != nil:
			return err
		case len(closed) == 0:
			return fmt.Errorf("%s is closed already: it is %s", record.ID, record.Status)
		}
		fmt.Fprintln(cmd.OutOrStdout(), record.ID, status)
	}
	return nil
}

// dismissAll closes the records that match, a page in each database transaction.
func (r *records) dismissAll(cmd *cobra.Command, f ledger.Filter, status ledger.Status, by ledger.By) error {
	total, err := r.Count(cmd.Context(), f)
	if err != nil {
		return err
	}
	var (
		done int
		ids  []string
	)
	flush := func() error {
		closed, err := r.Close(cmd.Context(), ids, status, by, ledger.Own{})
		if err != nil {
			return err
		}
		done, ids = done+len(closed), ids[:0]
		fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d %s\n", done, total, status)
		return nil
	}
	err = r.each(cmd, f, func(record ledger.Record) error {
		if ids = append(ids, record.ID); len(ids) < pageSize {
			return nil
		}
		return flush()
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	return flush()
}
