package copy

import "context"

// parallel calls f for 0 … n-1, at most as many small tasks at a time as a flow runs, and returns the first error, upon
// which the others are cancelled.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	if n == 0 {
		return context.Cause(ctx)
	}
	all := newFlow(ctx)
	defer all.close()
	for i := range n {
		all.add(small, func(ctx context.Context) error { return f(ctx, i) })
	}
	return all.wait()
}
