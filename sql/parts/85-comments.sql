
-- ---------------------------------------------------------------------------
-- What columns of tables and views are, where it was not said before
-- ---------------------------------------------------------------------------

COMMENT ON COLUMN queue.queue.queue IS 'the queue table';
COMMENT ON COLUMN queue.queue.lease IS
'how long a received message is hidden, unless receive() says otherwise';
COMMENT ON COLUMN queue.queue.max_attempts IS
'after so many failures a message is dead; 0: never';
COMMENT ON COLUMN queue.queue.retry_delay IS
'the first back-off; doubled with each failure from then on';
COMMENT ON COLUMN queue.queue.retry_max_delay IS 'the longest back-off';
COMMENT ON COLUMN queue.queue.dead_letter IS
'where dead messages go; null: they stay, exhausted';
COMMENT ON COLUMN queue.queue.enqueue_paused IS 'it takes no messages';
COMMENT ON COLUMN queue.queue.dequeue_paused IS 'it gives no messages';

COMMENT ON COLUMN queue.topic.topic IS 'the topic table';
COMMENT ON COLUMN queue.topic.partitions IS 'how many it has, numbered from 0';

COMMENT ON COLUMN queue.binding.topic IS 'the topic';
COMMENT ON COLUMN queue.binding.queue IS 'the queue that gets copies of its messages';

COMMENT ON COLUMN queue.subscription.subscription IS 'the subscription table';
COMMENT ON COLUMN queue.subscription.topic IS 'what it reads';
COMMENT ON COLUMN queue.subscription.lease IS
'how long a received message is hidden, unless receive() says otherwise';
COMMENT ON COLUMN queue.subscription.max_attempts IS
'after so many failures a message is dead; 0: never';
COMMENT ON COLUMN queue.subscription.retry_delay IS
'the first back-off; doubled with each failure from then on';
COMMENT ON COLUMN queue.subscription.retry_max_delay IS 'the longest back-off';
COMMENT ON COLUMN queue.subscription.dead_letter IS
'where dead messages go; null: they stay, exhausted';
COMMENT ON COLUMN queue.subscription.paused IS 'it gives no messages';

COMMENT ON COLUMN queue.lease_log.seq IS 'in which order it was written';
COMMENT ON COLUMN queue.lease_log.id IS 'of the message';
COMMENT ON COLUMN queue.lease_log.epoch IS 'what a receipt must say, with number';
COMMENT ON COLUMN queue.lease_log.deadline IS 'when the lease ends';

COMMENT ON COLUMN queue.prepared_note.relation IS 'what was published to, or sent to';
COMMENT ON COLUMN queue.prepared_note.last_id IS 'none of its ids is higher';
COMMENT ON COLUMN queue.prepared_note.messages IS 'how many there are';
COMMENT ON COLUMN queue.prepared_note.since IS 'when it published first';

COMMENT ON COLUMN queue.topic_stable.topic IS 'the topic table';
COMMENT ON COLUMN queue.topic_stable.stable_id IS 'below it nothing can appear';

COMMENT ON COLUMN queue.topic_removed.topic IS 'the topic table';
COMMENT ON COLUMN queue.topic_removed.partition IS 'which one';
COMMENT ON COLUMN queue.topic_removed.removed_id IS 'the last one that was deleted';

COMMENT ON COLUMN queue.global_transaction.gid IS 'its name';
COMMENT ON COLUMN queue.global_transaction.coordinator IS 'the role that began it';
COMMENT ON COLUMN queue.global_transaction.decision IS 'commit or abort; null: none yet';
COMMENT ON COLUMN queue.global_transaction.deadline IS 'until then it can be committed';
COMMENT ON COLUMN queue.global_transaction.participants IS 'who takes part';
COMMENT ON COLUMN queue.global_transaction.unfinished IS 'who has not reported the end';
COMMENT ON COLUMN queue.global_transaction.decided_at IS 'when it was decided';
COMMENT ON COLUMN queue.global_transaction.decided_by IS
'the coordinator, or a participant past the deadline';

COMMENT ON COLUMN queue.participant_database.participant IS 'role by which it is known';

COMMENT ON COLUMN queue.deciding_database.name IS 'as in the names of branches';
COMMENT ON COLUMN queue.deciding_database.password_required IS
'the connection must have a password, and the other database must ask for it';
COMMENT ON COLUMN queue.deciding_database.registered_in IS
'queue.identity() of this database at the time; with another one the row does nothing';
COMMENT ON COLUMN queue.deciding_database.last_error IS
'why it cannot be asked, or does not answer; null: all is well';

COMMENT ON COLUMN queue.outcome.branch IS 'name of the prepared transaction';
COMMENT ON COLUMN queue.outcome.by_owner IS 'its owner has finished it';
COMMENT ON COLUMN queue.outcome.finished_at IS 'when that was';

COMMENT ON COLUMN queue.committed_branch.branch IS 'name of the prepared transaction';
COMMENT ON COLUMN queue.committed_branch.owner IS 'who prepared it';
COMMENT ON COLUMN queue.committed_branch.prepared_at IS 'when it was prepared';

COMMENT ON COLUMN queue.restored_settings.queue IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.lease IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.max_attempts IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.retry_delay IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.retry_max_delay IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.dead_letter IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.own_dead_letter IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.enqueue_paused IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.dequeue_paused IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.max_lease IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.expires_in IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.on_expiry IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.group_mode IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.group_failure IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.dedup_window IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.max_messages IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.max_bytes IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.on_full IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.max_in_flight IS 'as in queue.queue';
COMMENT ON COLUMN queue.restored_settings.key_table IS 'as in queue.queue';

COMMENT ON COLUMN queue.restored_topics.topic IS 'as in queue.topic';
COMMENT ON COLUMN queue.restored_topics.partitions IS 'as in queue.topic';
COMMENT ON COLUMN queue.restored_topics.retention IS 'as in queue.topic';
COMMENT ON COLUMN queue.restored_topics.max_bytes IS 'as in queue.topic';
COMMENT ON COLUMN queue.restored_topics.keep_unread IS 'as in queue.topic';

COMMENT ON COLUMN queue.restored_bindings.topic IS 'as in queue.binding';
COMMENT ON COLUMN queue.restored_bindings.queue IS 'as in queue.binding';
COMMENT ON COLUMN queue.restored_bindings.pattern IS 'as in queue.binding';
COMMENT ON COLUMN queue.restored_bindings.selector IS 'as in queue.binding';
COMMENT ON COLUMN queue.restored_bindings.on_refusal IS 'as in queue.binding';
COMMENT ON COLUMN queue.restored_bindings.bound_by IS 'as in queue.binding';

COMMENT ON COLUMN queue.restored_subscriptions.subscription IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.topic IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.pattern IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.selector IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.on_failure IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.on_gap IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.idle_after IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.lease IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.max_attempts IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.retry_delay IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.retry_max_delay IS
'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.dead_letter IS 'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.own_dead_letter IS
'as in queue.subscription';
COMMENT ON COLUMN queue.restored_subscriptions.paused IS 'as in queue.subscription';

COMMENT ON COLUMN queue.cover.queue IS 'the queue';
COMMENT ON COLUMN queue.cover.schemaname IS 'its schema';
COMMENT ON COLUMN queue.cover.queuename IS 'its name, without the schema';
COMMENT ON COLUMN queue.cover.ranges IS
'ranges of ids that may hold available messages; 0, and no groups: none is available';
COMMENT ON COLUMN queue.cover.ready_groups IS
'groups of which a message waits for a consumer, and which nobody holds';
COMMENT ON COLUMN queue.cover.later IS
'priorities with messages whose row says that they are not due yet';
COMMENT ON COLUMN queue.cover.busy IS
'groups of messages that a transaction changes or sends, whose end is not announced';
COMMENT ON COLUMN queue.cover.looking IS 'calls that look at a part of the queue now';
COMMENT ON COLUMN queue.cover.waiting IS 'sessions that sleep until a message comes';
COMMENT ON COLUMN queue.cover.next_due IS
'when the first lease, back-off or delay ends, or what is busy is looked at again';
COMMENT ON COLUMN queue.cover.healed IS
'messages that were available but in none of the ranges, until the worker found them';
COMMENT ON COLUMN queue.cover.expired IS
'messages that the worker has moved or deleted because they had expired';

COMMENT ON COLUMN queue.storage.queue IS 'the queue';
COMMENT ON COLUMN queue.storage.schemaname IS 'its schema';
COMMENT ON COLUMN queue.storage.queuename IS 'its name, without the schema';
COMMENT ON COLUMN queue.storage.table_size IS
'bytes of the table, without indexes and TOAST';
COMMENT ON COLUMN queue.storage.index_size IS 'bytes of its indexes';
COMMENT ON COLUMN queue.storage.toast_size IS
'bytes of its TOAST table, with the index of that';
COMMENT ON COLUMN queue.storage.live_rows IS
'rows, as the statistics of the server estimate them';
COMMENT ON COLUMN queue.storage.dead_rows IS
'dead rows, as the statistics of the server estimate them';
COMMENT ON COLUMN queue.storage.vacuums IS
'how often the vacuum worker has vacuumed it since the server started';
COMMENT ON COLUMN queue.storage.vacuumed_at IS
'when that was last; null: not since the server started';
COMMENT ON COLUMN queue.storage.held_back IS
'enough rows are dead to be worth a vacuum, but somebody may still see them';
COMMENT ON COLUMN queue.storage.horizon_kind IS
'who has the oldest snapshot of this database: session, prepared transaction, replication slot, standby';
COMMENT ON COLUMN queue.storage.horizon_pid IS
'its process; of a slot, the one that uses it';
COMMENT ON COLUMN queue.storage.horizon_name IS 'its application_name, gid, or name';
COMMENT ON COLUMN queue.storage.horizon_since IS
'when its transaction began or was prepared';
COMMENT ON COLUMN queue.storage.horizon_xmin IS
'its oldest transaction id: what was deleted by this one or a later one stays';
COMMENT ON COLUMN queue.storage.horizon_age IS
'transaction ids that were assigned since then';

COMMENT ON COLUMN queue.held_groups.queue IS 'the queue';
COMMENT ON COLUMN queue.held_groups.schemaname IS 'its schema';
COMMENT ON COLUMN queue.held_groups.queuename IS 'its name, without the schema';
COMMENT ON COLUMN queue.held_groups.group_key IS 'the group';
COMMENT ON COLUMN queue.held_groups.id IS 'of the message that stops it';
COMMENT ON COLUMN queue.held_groups.failures IS 'of that message';
COMMENT ON COLUMN queue.held_groups.waiting IS 'messages of the group behind it';
COMMENT ON COLUMN queue.held_groups.failed_at IS 'when its last failure was counted';
COMMENT ON COLUMN queue.held_groups.last_error IS 'what was said of that';

COMMENT ON COLUMN queue.in_doubt.gid IS 'the name given to PREPARE TRANSACTION';
COMMENT ON COLUMN queue.in_doubt.owner IS
'the role that prepared it; it or a superuser may end it';
COMMENT ON COLUMN queue.in_doubt.database IS 'where it must be ended';
COMMENT ON COLUMN queue.in_doubt.transaction IS 'its transaction id';
COMMENT ON COLUMN queue.in_doubt.prepared_at IS 'when it was prepared';
COMMENT ON COLUMN queue.in_doubt.age IS 'time since then';
COMMENT ON COLUMN queue.in_doubt.queues IS
'what it has done to which queue, topic or subscription; null: none is known';
COMMENT ON COLUMN queue.in_doubt.horizon_age IS
'transactions since it began: rows that died since cannot be vacuumed';
COMMENT ON COLUMN queue.in_doubt.blocked IS 'processes of sessions that wait for it';
COMMENT ON COLUMN queue.in_doubt.transaction_manager IS
'Atomikos, Narayana or Bitronix, by format_id; null: another one, or none';
COMMENT ON COLUMN queue.in_doubt.format_id IS
'of the identifier of X/Open, if gid is one';
COMMENT ON COLUMN queue.in_doubt.gtrid IS 'its global part';
COMMENT ON COLUMN queue.in_doubt.bqual IS 'its branch qualifier';
COMMENT ON COLUMN queue.in_doubt.deciding_database IS
'whose decision it waits for, if it is a branch that is resolved here';
COMMENT ON COLUMN queue.in_doubt.decision IS
'that decision, if this database makes it: commit, abort, undecided, no record';
COMMENT ON COLUMN queue.in_doubt.commit_command IS
'what commits it; null: that would be against the decision';
COMMENT ON COLUMN queue.in_doubt.rollback_command IS
'what rolls it back; null: that would be against the decision';

COMMENT ON COLUMN queue.topics.topic IS 'the topic table';
COMMENT ON COLUMN queue.topics.schemaname IS 'its schema';
COMMENT ON COLUMN queue.topics.topicname IS 'its name, without the schema';
COMMENT ON COLUMN queue.topics.owner IS 'its owner';
COMMENT ON COLUMN queue.topics.partitions IS 'how many partitions it has';
COMMENT ON COLUMN queue.topics.retention IS
'how long its messages are kept; null: for ever';
COMMENT ON COLUMN queue.topics.max_bytes IS
'how many bytes its messages may take, before the oldest go; null: no limit';
COMMENT ON COLUMN queue.topics.keep_unread IS
'what a subscription has not read is kept beyond the retention';
COMMENT ON COLUMN queue.topics.partition IS 'the partition that the rest is about';
COMMENT ON COLUMN queue.topics.limit_id IS
'it can be read up to here: below nothing can appear any more';
COMMENT ON COLUMN queue.topics.next_id IS 'no id so high has been given out';
COMMENT ON COLUMN queue.topics.held_back_by IS
'process or gid of the transaction that holds the limit back; null: none';
COMMENT ON COLUMN queue.topics.held_back_since IS 'since when it does';

COMMENT ON COLUMN queue.bindings.topic IS 'the topic';
COMMENT ON COLUMN queue.bindings.queue IS 'the queue that gets copies of its messages';
COMMENT ON COLUMN queue.bindings.schemaname IS 'schema of the queue';
COMMENT ON COLUMN queue.bindings.queuename IS 'name of the queue, without the schema';
COMMENT ON COLUMN queue.bindings.pattern IS
'which routing keys it wants: words between dots, * for one, # for any number';
COMMENT ON COLUMN queue.bindings.selector IS
'which of these messages it wants; null: all';
COMMENT ON COLUMN queue.bindings.on_refusal IS
'what a publish does if the queue does not take the message: fail, skip';
COMMENT ON COLUMN queue.bindings.bound_by IS
'the role that made it, by the name it had then';
COMMENT ON COLUMN queue.bindings.skipped IS
'messages of any topic that the queue did not take, since the server started';
COMMENT ON COLUMN queue.bindings.skipped_at IS 'when that was the last time';
COMMENT ON COLUMN queue.bindings.last_refusal IS 'why it was, the last time';

COMMENT ON COLUMN queue.subscriptions.subscription IS 'the subscription table';
COMMENT ON COLUMN queue.subscriptions.schemaname IS 'its schema';
COMMENT ON COLUMN queue.subscriptions.subscriptionname IS 'its name, without the schema';
COMMENT ON COLUMN queue.subscriptions.topic IS 'what it reads';
COMMENT ON COLUMN queue.subscriptions.owner IS 'its owner';
COMMENT ON COLUMN queue.subscriptions.pattern IS
'which routing keys it wants: words between dots, * for one, # for any number';
COMMENT ON COLUMN queue.subscriptions.selector IS
'which of these messages it wants; null: all';
COMMENT ON COLUMN queue.subscriptions.on_failure IS
'what becomes of a message that failed max_attempts times: dead_letter, hold';
COMMENT ON COLUMN queue.subscriptions.on_gap IS
'what a reader meets whose next messages were removed by retention: error, skip';
COMMENT ON COLUMN queue.subscriptions.idle_after IS
'how long the topic keeps messages for it when nobody takes any; null: for ever';
COMMENT ON COLUMN queue.subscriptions.lease IS
'how long a received message is hidden, unless receive() says otherwise';
COMMENT ON COLUMN queue.subscriptions.max_attempts IS
'after so many failures a message is dead; 0: never';
COMMENT ON COLUMN queue.subscriptions.retry_delay IS
'the first back-off; doubled with each failure from then on';
COMMENT ON COLUMN queue.subscriptions.retry_max_delay IS 'the longest back-off';
COMMENT ON COLUMN queue.subscriptions.dead_letter IS
'where dead messages go; null: they stay, exhausted';
COMMENT ON COLUMN queue.subscriptions.paused IS 'it gives no messages';
COMMENT ON COLUMN queue.subscriptions.partition IS 'the partition that the rest is about';
COMMENT ON COLUMN queue.subscriptions."position" IS
'it is done with this id and all before it; null: not known to memory';
COMMENT ON COLUMN queue.subscriptions.behind IS 'messages that it has still to look at';
COMMENT ON COLUMN queue.subscriptions.behind_since IS
'when the first of them was published';
COMMENT ON COLUMN queue.subscriptions.failures IS 'of what is next';
COMMENT ON COLUMN queue.subscriptions.held_by IS
'process or gid of the transaction that holds the partition; of a lease, the process that received';
COMMENT ON COLUMN queue.subscriptions.held_since IS 'since when it is held';
COMMENT ON COLUMN queue.subscriptions.held_until IS
'when the lease ends; null: it is no lease';

COMMENT ON COLUMN queue.global_transactions.coordinator IS 'the role that began it';
COMMENT ON COLUMN queue.global_transactions.gid IS 'its name';
COMMENT ON COLUMN queue.global_transactions.decision IS 'commit or abort; null: none yet';
COMMENT ON COLUMN queue.global_transactions.deadline IS 'until then it can be committed';
COMMENT ON COLUMN queue.global_transactions.is_over IS 'the deadline has passed';
COMMENT ON COLUMN queue.global_transactions.participants IS 'who takes part';
COMMENT ON COLUMN queue.global_transactions.unfinished IS 'who has not reported the end';
COMMENT ON COLUMN queue.global_transactions.begun_at IS
'when it was begun; null: a participant asked for it before, which made it abort';
COMMENT ON COLUMN queue.global_transactions.decided_at IS 'when it was decided';
COMMENT ON COLUMN queue.global_transactions.decided_by IS
'the coordinator, or a participant past the deadline';

COMMENT ON COLUMN queue.branches.branch IS 'name of the prepared transaction';
COMMENT ON COLUMN queue.branches.deciding_database IS
'whose decision it waits for, as registered; null: none is';
COMMENT ON COLUMN queue.branches.participant IS
'role of the deciding database by which it knows this one';
COMMENT ON COLUMN queue.branches.gid IS 'name of the global transaction';
COMMENT ON COLUMN queue.branches.owner IS 'who prepared it';
COMMENT ON COLUMN queue.branches.prepared IS 'when it was prepared';
COMMENT ON COLUMN queue.branches.status IS 'who resolves it, or why nobody does';

COMMENT ON COLUMN queue.forced_outcomes.branch IS 'name of the prepared transaction';
COMMENT ON COLUMN queue.forced_outcomes.outcome IS
'commit, abort, or none: it was never committed here';
COMMENT ON COLUMN queue.forced_outcomes.finished_by IS
'the role that finished it; null for none';
COMMENT ON COLUMN queue.forced_outcomes.finished_at IS
'when it was finished, or found missing';
COMMENT ON COLUMN queue.forced_outcomes.decision IS
'what was decided, as far as it is known';

COMMENT ON COLUMN queue.lease.queue IS 'the queue table';
COMMENT ON COLUMN queue.lease.id IS 'of the message';
COMMENT ON COLUMN queue.lease.enqueued_at IS
'of the row that is leased: another row with its id is another message';
COMMENT ON COLUMN queue.lease.epoch IS 'what a receipt must say, with number';
COMMENT ON COLUMN queue.lease.number IS '0: taken by an open transaction';
COMMENT ON COLUMN queue.lease.deadline IS 'when the lease ends';
