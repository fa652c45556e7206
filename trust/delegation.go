package trust

// A delegation is a section "delegate" of a scope: whose documents may grant keys there (D1).
type delegation struct {
	line int
}

type (
	delegationMemo     struct{}
	delegationEvidence struct{}
)
