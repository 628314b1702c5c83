package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

// closed drives the load as fast as answers come, each caller sending when it has its
// answer, until length has passed or one of them has no request left. It returns for
// how long.
func (l *load) closed(ctx context.Context, length time.Duration) (time.Duration, error) {
	parent := ctx
	ctx = l.begin(ctx, length)
	defer l.stop()
	began := time.Now()
	timer := time.AfterFunc(length, l.halt)
	defer timer.Stop()
	broken := context.AfterFunc(parent, l.halt)
	defer broken()
	var wait sync.WaitGroup
	if l.mode == unary {
		for _, c := range l.callers {
			wait.Go(func() { l.closedUnary(ctx, c) })
		}
	} else {
		for i, conn := range l.conns {
			wait.Go(func() { l.closedStream(ctx, conn, i) })
		}
	}
	wait.Wait()
	if err := parent.Err(); err != nil {
		return 0, context.Cause(parent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drains || l.ended.IsZero() {
		l.ended = time.Now()
	}
	return l.ended.Sub(began), l.failure
}

func (l *load) closedUnary(ctx context.Context, c *caller) {
	conn := l.connOf(c)
	for !l.halted.Load() {
		if c.next == len(c.plan) {
			l.halt()
			return
		}
		began := time.Now()
		if err := c.call(ctx, conn); err != nil {
			l.fail(err)
			return
		}
		l.done(began)
	}
}

// closedStream drives the callers of one connection on one stream.
func (l *load) closedStream(ctx context.Context, conn *grpc.ClientConn, number int) {
	if number >= len(l.callers) {
		return
	}
	if err := l.closedItems(ctx, conn, number); err != nil {
		l.fail(err)
	}
}

func (l *load) closedItems(ctx context.Context, conn *grpc.ClientConn, number int) error {
	s, err := keydv1.NewPinServiceClient(conn).TranslatePinDataStream(ctx)
	if err != nil {
		return err
	}
	open := 0
	send := func(c *caller) error {
		if c.next == len(c.plan) {
			l.halt()
			return nil
		}
		c.fill(&c.plan[c.next])
		c.next++
		c.sent = time.Now()
		open++
		return s.Send(c.item)
	}
	for i := number; i < len(l.callers); i += len(l.conns) {
		if err := send(l.callers[i]); err != nil {
			return streamError(s, err)
		}
	}
	answer := new(keydv1.TranslatePinDataStreamResponse)
	for open > 0 {
		c, err := l.receive(s, answer, number)
		if err != nil {
			return err
		}
		open--
		if err := l.take(c, answer); err != nil {
			return err
		}
		if !l.halted.Load() {
			if err := send(c); err != nil {
				return streamError(s, err)
			}
		}
	}
	return finish(s)
}

type pinStream = grpc.BidiStreamingClient[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]

// receive takes one answer from the stream of a connection and returns whose it is.
func (l *load) receive(s pinStream, answer *keydv1.TranslatePinDataStreamResponse, number int) (*caller, error) {
	if err := s.RecvMsg(answer); err != nil {
		return nil, fmt.Errorf("the stream ended: %w", err)
	}
	id := answer.GetCorrelationId()
	if id >= uint64(len(l.callers)) || int(id)%len(l.conns) != number {
		return nil, fmt.Errorf("wrong answer: to correlation_id %d, which was not sent", id)
	}
	return l.callers[id], nil
}

// take counts and checks the answer to a caller's request on a stream.
func (l *load) take(c *caller, answer *keydv1.TranslatePinDataStreamResponse) error {
	if e := answer.GetError(); e != nil {
		return fmt.Errorf("an item was refused: %s", e.GetMessage())
	}
	l.done(c.sent)
	return c.check(&c.plan[c.next-1], answer.GetResponse())
}

// streamError returns why a stream ended, which sending does not tell.
func streamError(s pinStream, sending error) error {
	if _, err := s.Recv(); err != nil {
		return fmt.Errorf("the stream ended: %w", err)
	}
	return fmt.Errorf("send: %w", sending)
}
