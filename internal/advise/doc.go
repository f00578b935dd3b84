// Package advise says how a group is used in ways that hurt it: transactions
// that are too large, members that slow the others down, tables that are
// written in several places at once. It reads what MySQL counts anyway and
// changes nothing.
//
// # What MySQL tells, and what it does not
//
//	transaction sizes   performance_schema.binary_log_transaction_compression_stats
//	                    has the average; the newest binary log has each, with its
//	                    tables; binlog_cache_disk_use counts those beyond a limit
//	flow control        the applier's queue and the thresholds; how often and how
//	                    long transactions were throttled only with the component
//	                    group_replication_flow_control_stats
//	conflicts           replication_group_member_stats counts them, and nothing in
//	                    MySQL says by table. What sessions remember of their last
//	                    ten statements does: a COMMIT that lost, and what was
//	                    changed before it in the same transaction
//
// So conflicts by table are a sample: of sessions that are connected while it
// is taken. It is enough to find the table that hurts, and no statistic.
//
// Looking (Look, Largest) needs a server; deciding (Decide) is a function of
// what was seen.
package advise
