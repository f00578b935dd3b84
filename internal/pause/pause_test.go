package pause_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/pause"
)

func TestForWaitsAsLongAsItIsToldOrUntilItIsCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := pause.For(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Error(time.Since(began), err)
		}
		why := errors.New("called off")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		began = time.Now()
		if err := pause.For(ctx, time.Minute); !errors.Is(err, why) || time.Since(began) != time.Second {
			t.Error(time.Since(began), err)
		}
	})
}
