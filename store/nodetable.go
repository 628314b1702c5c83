package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const (
	nodeColumns = `name, version, epoch, instance, detail, last_seen`

	reportNode = `INSERT INTO nodes (` + nodeColumns + `) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, epoch = excluded.epoch,
			instance = excluded.instance, detail = excluded.detail, last_seen = excluded.last_seen`

	otherNodes = `SELECT count(*) FROM nodes WHERE name <> $1`

	listNodes = `SELECT ` + nodeColumns + ` FROM nodes ORDER BY name LIMIT $1`

	removeNode = `DELETE FROM nodes WHERE name = $1`

	withdrawOf = `DELETE FROM epochs WHERE state = 'PROPOSED' AND node = $1`
)

// ReportNode implements [Nodes].
func (s *tables) ReportNode(ctx context.Context, n Node) error {
	if err := n.Validate(); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		var others int64
		if err := tx.QueryRowContext(ctx, otherNodes, n.Name).Scan(&others); err != nil {
			return err
		}
		if others >= MaxNodes {
			return fmt.Errorf("%w: node %s: there are %d nodes already: remove those that will not come back", ErrInvalid, n.Name, MaxNodes)
		}
		now, err := s.engine.now(ctx, tx)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, reportNode, n.Name, n.Version, int64(n.Epoch), n.Instance, n.Detail, now)
		return err
	})
}

// Nodes implements [Nodes].
func (s *tables) Nodes(ctx context.Context) (nodes []Node, err error) {
	err = s.engine.snapshot(ctx, func(tx *sql.Tx) error {
		nodes = nil
		now, err := s.engine.now(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, listNodes, MaxNodes)
		if err != nil {
			return err
		}
		return eachRow(rows, scanNode, func(n Node) error {
			n.Age = max(0, time.UnixMicro(now).Sub(n.LastSeen))
			nodes = append(nodes, n)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

// RemoveNode implements [Nodes].
func (s *tables) RemoveNode(ctx context.Context, name string) error {
	if !validNode(name) {
		return s.fail(ErrNotFound)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		removed := int64(0)
		for _, statement := range []string{removeNode, withdrawOf} {
			result, err := tx.ExecContext(ctx, statement, name)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			removed += n
		}
		if removed == 0 {
			return fmt.Errorf("node %s: %w", name, ErrNotFound)
		}
		return nil
	})
}

// scanNode takes the columns as they come; see scan.
func scanNode(row scanner) (Node, error) {
	column, err := columns(row, 6)
	if err != nil {
		return Node{}, err
	}
	name, ok0 := column[0].(string)
	version, ok1 := column[1].(string)
	epoch, ok2 := column[2].(int64)
	digest, ok3 := column[3].(string)
	detail, ok4 := column[4].(string)
	seen, ok5 := column[5].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || epoch < 0 {
		return Node{}, ErrCorrupt
	}
	n := Node{Name: name, Version: version, Epoch: uint64(epoch), Instance: digest, Detail: detail, LastSeen: time.UnixMicro(seen).UTC()}
	if n.Validate() != nil || !validTime(n.LastSeen) {
		return Node{}, ErrCorrupt
	}
	return n, nil
}
