package queue

// mark stands for a bound value in a statement that has passed the guard. The
// guard refuses it anywhere else.
const mark = "\x00"
